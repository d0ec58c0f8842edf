"""`feiqian init`, `start` and `status`: a ledger's directory, its two processes and how it stands."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from feiqian.cli.arguments import GivenFile, LedgerDirectory
from feiqian.cli.connection import Url, connect
from feiqian.cli.output import EXIT_USAGE, Output, fail
from feiqian.cli.proving import known_block
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.addresses import to_text
from feiqian.execution.genesis import ConsortiumError, KeyResolver, account_names
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.node.initialise import initialise
from feiqian.node.restore import Source, restore
from feiqian.node.supervisor import supervise
from feiqian.wallet.files import public_text


def init(
    directory: Path,
    *,
    consortium: Annotated[Path | None, Parameter(name=["--from", "--consortium"])] = None,
    keys: Path | None = None,
    snapshot: GivenFile = None,
    segments: GivenFile = None,
    genesis: GivenFile = None,
    validator_key: GivenFile = None,
    trusted: str | None = None,
    json: bool = False,
) -> None:
    """Make a new ledger in DIRECTORY from a consortium file, or the directory of one that is to go on.

    A ledger goes on from a snapshot, from segment files, or from a snapshot and the segment files after it. That takes
    its genesis file and its own validator key. Never do it while another copy of the ledger runs, or may run again.

    Args:
        directory: an empty or new directory.
        consortium: the consortium.toml that names members, accounts, assets and parameters.
        keys: where the key files lie that the consortium file names as "key:NAME" (NAME.json below this directory).
        snapshot: a file that `feiqian snapshot` wrote.
        segments: a folder of segment files; what follows the snapshot in them, or all, is run again.
        genesis: the genesis.json of the ledger that goes on.
        validator_key: its validator_key.json; no other key can go on with it.
        trusted: HEIGHT:HASH of a block that you know to be the ledger's, best of its last one; refused if not reached.
        json: print one JSON value.
    """
    is_old = snapshot is not None or segments is not None
    if (consortium is None) == (not is_old):
        fail("say what to make it of: --from FILE; or --snapshot FILE, --segments FOLDER or both", EXIT_USAGE)
    if consortium is not None:
        value = _make_new(directory, consortium, keys)
    elif genesis is None or validator_key is None:
        fail("a ledger goes on with its own genesis and key: --genesis FILE --validator-key FILE", EXIT_USAGE)
    else:
        source = Source(snapshot, segments, None if trusted is None else known_block(trusted))
        value = _restore(directory, source, genesis, validator_key, Output(is_json=json))
    Output(is_json=json).value(value)


def key_resolver(keys: Path | None) -> KeyResolver:
    """Return what reads the key files that a consortium file names, below the folder `keys`."""

    def resolve(name: str) -> str:
        if keys is None:
            raise ConsortiumError(f"the file names key {name!r}; say where key files lie: --keys DIR")
        path = keys / f"{name}.json"
        if not path.exists():
            raise ConsortiumError(f"the file names key {name!r}, and there is no {path}; see `feiqian key new`")
        return public_text(path)

    return resolve


def _make_new(directory: Path, consortium: Path, keys: Path | None) -> dict[str, Any]:
    genesis = initialise(directory, consortium, discover(), key_resolver(keys))
    names = {name: to_text(address) for name, address in account_names(genesis.app_state).items()}
    return {"directory": str(directory), "chain_id": genesis.chain_id, "accounts": names}


def _restore(directory: Path, source: Source, genesis: Path, validator_key: Path, out: Output) -> dict[str, Any]:
    with out.progress("blocks run again") as progress:
        restored = restore(
            directory, source, genesis, validator_key, discover(), lambda height: progress(height, height)
        )
    return {
        "directory": str(directory),
        "chain_id": restored.genesis.chain_id,
        "first_block": restored.first_block,
        "height": restored.height,
        "app_hash": restored.app_hash.hex(),
        "trusted": restored.trusted,
    }


def start(directory: Path) -> None:
    """Run the ledger in DIRECTORY, node and gateway, until SIGTERM or Ctrl-C.

    Args:
        directory: a directory made by `feiqian init`.
    """
    sys.exit(supervise(directory))


def status(*, key: Path | None = None, as_account: str | None = None, url: Url = None, json: bool = False) -> None:
    """Print how the ledger stands; signed in also what it takes on disk, and of a network peers and validators.

    Args:
        key: the key file to sign in with.
        as_account: the account to sign in for.
        url: the gateway's address (FEIQIAN_URL; http://127.0.0.1:8270 otherwise).
        json: print one JSON value.
    """
    if (key is None) != (as_account is None):
        fail("to sign in name both, the account and its key: --as-account ACCOUNT --key FILE", EXIT_USAGE)
    with connect(url, as_account, key) as client:
        value = client.status()
    Output(is_json=json).value(value if json else _merged(value))


def _merged(status: dict[str, Any]) -> dict[str, Any]:
    """Return all that is told of a ledger as one table, for people."""
    operation = status.pop("operation", {})
    network = operation.pop("network", None) or {}
    validators = [f"{each['name']} {each['power']}" for each in network.pop("validators", [])]
    engine = {"engine": "comet" if network else "solo"} if operation else {}
    missing = network.get("missing_nodes")
    network |= {"validators": ", ".join(validators)} if validators else {}
    network |= {"missing_nodes": ", ".join(missing) or "none"} if missing is not None else {}
    return {**status, **operation, **engine, **network}


def address(directory: LedgerDirectory, name: str) -> None:
    """Print the address of an account that the ledger's consortium file named.

    Args:
        directory: the ledger's directory.
        name: the account's name in the consortium file.
    """
    names = account_names(load_genesis(Layout(directory).genesis).app_state)
    if name not in names:
        raise ConsortiumError(f"the consortium file names no account {name!r}; it names {', '.join(sorted(names))}")
    sys.stdout.write(to_text(names[name]) + "\n")
