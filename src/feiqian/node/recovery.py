"""What the block log holds beyond the store is run again at a start, before the node serves anyone."""

from pathlib import Path

import structlog

from feiqian.consensus.genesis_file import Genesis
from feiqian.core.encoding import encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.execution.admission import prepare
from feiqian.execution.blocks import BLOCK, execute_block, open_bundle
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.parameters import get_parameters
from feiqian.node.committer import CommitterProcess
from feiqian.node.executed import Executed, assemble
from feiqian.state.block_log import BlockLog, LoggedBlock
from feiqian.state.store import Store
from feiqian.state.tables import BlockState


def recover(
    directory: Path, registry: Registry, genesis: Genesis, store: Store, committer: CommitterProcess
) -> BlockLog:
    """Open the block log in `directory`, and bring the store to the last block that was committed before a crash.

    Raises:
        WrongRelease: those blocks were made by another release's rules; it must be started once more before this one.
        Fault: running a block gives something else than it gave then; the disk refuses; see `BlockLog`.
    """
    log = BlockLog(directory, store)
    for logged in log.beyond:
        committer.send(_run_again(registry, genesis, store, logged))
        committer.receive(logged.height)
        structlog.get_logger().info("recovered", height=logged.height)
    log.beyond = ()
    return log


def _run_again(registry: Registry, genesis: Genesis, store: Store, logged: LoggedBlock) -> Executed:
    try:
        block = BLOCK.decode(logged.block)
        bundles = [open_bundle(bundle) for bundle in block.bundles]
        transactions = [prepare(registry, genesis.chain_id, signed) for bundle in bundles for signed in bundle]
    except InvalidTransaction as error:
        raise Fault(f"block log: block {logged.height} holds what no block may: {error.message}") from error
    info = BlockInfo(genesis.chain_id, block.height, block.time_ms)
    app_version = get_parameters(BlockState(store)).app_version
    with store.view() as view:
        outcome = execute_block(registry, view, view, info, transactions, misbehaviour=block.misbehaviour)
    counts = [len(bundle) for bundle in bundles]
    executed = assemble(info, block.bundles, counts, outcome, app_version, block.misbehaviour)
    if executed.block != logged.block or not logged.gave(encode(outcome.results)):
        raise Fault(f"block log: running block {logged.height} again gives other results than it gave at first")
    return executed
