"""`python -m feiqian.api.indexer DIR`: keeps the SQL index of one ledger at its node's height.

A process of its own that runs when no other wants to, so that indexing takes no time from payments or people. With
`--until-stdin-closes` it ends with the process that started it. Killing it at any moment loses nothing.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from feiqian.api.edge import discover_edges
from feiqian.api.index_source import IndexSource
from feiqian.api.ledger_view import try_open_store
from feiqian.api.settings import GatewaySettings, read_gateway_settings
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.settings import SettingsError
from feiqian.execution.registry import discover
from feiqian.index.database import database_url, open_engine
from feiqian.index.follower import follow
from feiqian.index.writer import IndexWriter
from feiqian.process.courtesy import Courtesy
from feiqian.process.logs import configure_logs
from feiqian.process.memory import tune_memory
from feiqian.process.privacy import keep_files_private

STORE_WAIT_S = 0.1
FAULT_STATUS = 3
WRONG_USAGE_STATUS = 2

log = structlog.get_logger("feiqian.index")


def main(arguments: list[str]) -> int:
    """Run until killed; return an exit status where it cannot go on."""
    ends_with_parent = "--until-stdin-closes" in arguments
    directories = [argument for argument in arguments if not argument.startswith("-")]
    if len(directories) != 1:
        print("usage: python -m feiqian.api.indexer DIR", file=sys.stderr)
        return WRONG_USAGE_STATUS
    if ends_with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_files_private()
    give_way = Courtesy()
    tune_memory()
    directory = Path(directories[0])
    try:
        settings = read_gateway_settings(directory)
        configure_logs(settings.log_level, "index")
        run(directory, settings, give_way)
    except SettingsError as error:
        print(f"feiqian index: {error}", file=sys.stderr)
        return WRONG_USAGE_STATUS
    except Exception as error:
        log.critical("fault", error=str(error), exc_info=error)
        return FAULT_STATUS
    return 0


def run(directory: Path, settings: GatewaySettings, give_way: Callable[[], None]) -> None:
    """Follow the node of a ledger's directory into the database that its settings name."""
    data = directory / "data"
    registry = discover()
    engine = open_engine(database_url(settings.database, directory))
    projections = [projection for edge in discover_edges() for projection in edge.projections]
    while (store := try_open_store(data)) is None:
        time.sleep(STORE_WAIT_S)
    genesis = load_genesis(directory / "genesis.json")
    source = IndexSource(data, store, registry, genesis)
    writer = IndexWriter(engine, registry, projections, give_way)
    follow(data / "node.sock", engine, writer, source.base, source.is_of_this_ledger, source.filed)


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
