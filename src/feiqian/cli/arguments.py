"""What a command's arguments must be: what is not is wrong usage, and said before anything is done."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from stdnum import iban as ibans

DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
HEX = re.compile(r"(?:[0-9a-fA-F]{2})*", re.ASCII)
MAX_VALID_S = 600
"""The longest that a ledger lets a transaction wait."""


def _check_hex(_type: object, text: str) -> None:
    if not HEX.fullmatch(text):
        raise ValueError("Write it in hex digits, two a byte.")


def _check_day(_type: object, text: str | None) -> None:
    if text is None:
        return
    try:
        date.fromisoformat(text if DAY.fullmatch(text) else "")
    except ValueError:
        raise ValueError("Write a day as 2026-01-31.") from None


def _check_iban(_type: object, text: str | None) -> None:
    if text is not None and not ibans.is_valid(text):
        raise ValueError("It fails its check digits or its country's form.")


def _check_there(_type: object, path: Path | None) -> None:
    if path is not None and not path.exists():
        raise ValueError("There is no such file.")


def _check_place(_type: object, path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir():
        raise ValueError("It is a folder; name a file.")
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {path.parent}; make it first.")


def _check_new(_type: object, path: Path) -> None:
    if path.exists():
        raise ValueError("It exists, and is never overwritten; name another file.")
    _check_place(_type, path)


def _check_folder(_type: object, path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError("It is no folder; name one, or a place for a new one.")


def _check_ledger(_type: object, path: Path) -> None:
    if not (path / "genesis.json").is_file():
        raise ValueError("It holds no genesis.json; name a directory that `feiqian init` made.")


Hex = Annotated[str, Parameter(validator=_check_hex)]
"""Bytes in hex."""

Day = Annotated[str | None, Parameter(validator=_check_day)]
"""A day, 2026-01-31."""

Iban = Annotated[str | None, Parameter(validator=_check_iban)]
"""An account number of ISO 13616."""

Count = Annotated[int, Parameter(validator=Number(gte=0))]
"""How many."""

BlockHeight = Annotated[int, Parameter(validator=Number(gte=0))]
"""A block's."""

ValidFor = Annotated[int, Parameter(validator=Number(gte=1, lte=MAX_VALID_S))]
"""Seconds that a transaction may wait for its block."""

GivenFile = Annotated[Path | None, Parameter(validator=_check_there)]
"""A file, or a folder of files, to read, where an option names one."""

GivenFolder = Annotated[Path, Parameter(validator=_check_there)]
"""A folder of files to read."""

OutFile = Annotated[Path | None, Parameter(validator=_check_place)]
"""A file to write, which may be there already."""

NewFile = Annotated[Path, Parameter(validator=_check_new)]
"""A file to write that is not there yet."""

OutFolder = Annotated[Path, Parameter(validator=_check_folder)]
"""A folder to write into."""

LedgerDirectory = Annotated[Path, Parameter(validator=_check_ledger)]
"""The directory of a ledger."""
