"""The node process, `python -m feiqian.node DIR`: runs the engine that its settings name until told to stop."""

import sys
from pathlib import Path

import uvloop

from feiqian.consensus.genesis_file import InvalidGenesis
from feiqian.core.settings import SettingsError
from feiqian.node.comet.main import run_network
from feiqian.node.configuration import Layout, read_node_settings
from feiqian.node.faults import DONE, WRONG_USAGE, stop_loudly
from feiqian.node.process import only_node
from feiqian.node.solo import run_solo
from feiqian.process.logs import configure_logs


def main(arguments: list[str]) -> int:
    """Run the node of the directory named; return its exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m feiqian.node DIR\n")
        return WRONG_USAGE
    layout = Layout(Path(arguments[0]).absolute())
    try:
        settings = read_node_settings(layout)
        configure_logs(settings.log_level, "node")
        run = run_solo if settings.engine == "solo" else run_network
        with only_node(layout):
            uvloop.run(run(layout, settings))
    except (SettingsError, InvalidGenesis, FileNotFoundError) as error:
        sys.stderr.write(f"feiqian node: {error}\n")
        return WRONG_USAGE
    except Exception as error:  # noqa: BLE001 - the outermost: whatever it is, it is ours and ends the process
        stop_loudly("node", error)
    return DONE
