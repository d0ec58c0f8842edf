"""The sealed document behind a payment: all that names people or says what the money is for."""

import msgspec
from msgspec import Struct

from feiqian.modules.payments.edge.instructions import Instruction

VERSION = 1


class Particulars(Struct, frozen=True, forbid_unknown_fields=True):
    """An instruction as its file had it, with who initiated it and which message it came in."""

    version: int
    message: str
    initiating_party: str
    instruction: Instruction


class ParticularsMalformed(ValueError):
    """An opened document that is no payment's particulars."""


def encode_particulars(message: str, initiating_party: str, instruction: Instruction) -> bytes:
    """Return the content to seal."""
    return msgspec.json.encode(Particulars(VERSION, message, initiating_party, instruction))


def decode_particulars(content: bytes) -> Particulars:
    """Return what an opened document says.

    Raises:
        ParticularsMalformed: another kind or version of document.
    """
    try:
        particulars = msgspec.json.decode(content, type=Particulars)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ParticularsMalformed(f"not a payment's particulars: {str(error)[:200]}") from None
    if particulars.version != VERSION:
        raise ParticularsMalformed(f"particulars of version {particulars.version}; this release reads {VERSION}")
    return particulars
