"""`feiqian init`, `start` and `status`: a ledger's directory, its two processes and how it stands."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from feiqian.cli.connection import Url, connect
from feiqian.cli.output import Output
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.addresses import to_text
from feiqian.execution.genesis import ConsortiumError, account_names
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.node.initialise import initialise
from feiqian.node.supervisor import supervise
from feiqian.wallet.files import public_text


def init(
    directory: Path,
    *,
    consortium: Annotated[Path, Parameter(name=["--from", "--consortium"])],
    keys: Path | None = None,
    json: bool = False,
) -> None:
    """Make a new ledger in DIRECTORY from a consortium file.

    Parameters
    ----------
    directory: an empty or new directory.
    consortium: the consortium.toml that names members, accounts, assets and parameters.
    keys: where the key files lie that the consortium file names as "key:NAME" (NAME.json below this directory).
    json: print one JSON value.
    """

    def resolve(name: str) -> str:
        if keys is None:
            raise ConsortiumError(f"the file names key {name!r}; say where key files lie: --keys DIR")
        return public_text(keys / f"{name}.json")

    genesis = initialise(directory, consortium, discover(), resolve)
    names = {name: to_text(address) for name, address in account_names(genesis.app_state).items()}
    value = {"directory": str(directory), "chain_id": genesis.chain_id, "accounts": names}
    Output(is_json=json).value(value)


def start(directory: Path) -> None:
    """Run the ledger in DIRECTORY, node and gateway, until SIGTERM or Ctrl-C.

    Parameters
    ----------
    directory: a directory made by `feiqian init`.
    """
    sys.exit(supervise(directory))


def status(*, url: Url = None, json: bool = False) -> None:
    """Print how the ledger stands.

    Parameters
    ----------
    url: the gateway's address (FEIQIAN_URL; http://127.0.0.1:8270 otherwise).
    json: print one JSON value.
    """
    with connect(url) as client:
        Output(is_json=json).value(client.status())


def address(directory: Path, name: str) -> None:
    """Print the address of an account that the ledger's consortium file named.

    Parameters
    ----------
    directory: the ledger's directory.
    name: the account's name in the consortium file.
    """
    names = account_names(load_genesis(Layout(directory).genesis).app_state)
    if name not in names:
        raise ConsortiumError(f"the consortium file names no account {name!r}; it names {', '.join(sorted(names))}")
    sys.stdout.write(to_text(names[name]) + "\n")
