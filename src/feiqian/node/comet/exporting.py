"""The process that writes one snapshot, `python -m feiqian.node.comet.exporting DIRECTORY HEIGHT FILE`, and ends.

What keeps it from writing one, a full disk above all, is said in a line and harms nobody: the ledger goes on without.
"""

import os
import signal
import sys
from pathlib import Path

import structlog

from feiqian.consensus.genesis_file import load_genesis
from feiqian.consensus.restoring import evidence_for
from feiqian.core.errors import Fault
from feiqian.node.configuration import Layout
from feiqian.node.faults import DONE, REFUSED
from feiqian.process.logs import configure_logs
from feiqian.state.errors import OutsideWindow, SnapshotRefused
from feiqian.state.snapshots import export
from feiqian.state.store import Store

NICENESS = 10
"""Behind whatever makes blocks, and yet not for ever: until it ends the store can't use again what was given up."""


def main(arguments: list[str]) -> int:
    """Write the snapshot; return the exit status."""
    layout, height, path = Layout(Path(arguments[0])), int(arguments[1]), Path(arguments[2])
    configure_logs("info", "snapshot")
    # Signals that stop a node reach this process too, from a terminal; the node itself ends it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    try:
        store = Store.open(layout.ledger, read_only=True)
        try:
            export(store, height, path, evidence_for(store, height, load_genesis(layout.genesis)))
        finally:
            store.close()
    except (Fault, OutsideWindow, SnapshotRefused) as error:
        structlog.get_logger().warning("snapshot_failed", height=height, reason=str(error))
        return REFUSED
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
