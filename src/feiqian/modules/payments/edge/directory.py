"""The digests that stand in a public ledger for account numbers, holders' names and payers' references.

A digest is not secrecy: whoever can guess an IBAN can check the guess. It keeps a reader of the ledger from reading
numbers and names off it, and nothing more; the README says what that protects.
"""

import unicodedata

from feiqian.core.encoding import encode
from feiqian.core.hashing import Domain

IBAN = "iban"
LOCAL = "local"
"""Kinds of account number: ISO 13616, or the agent's own numbering."""

_ALIAS = Domain("feiqian/payments-alias/v1")
_NAME = Domain("feiqian/payments-holder-name/v1")
_INSTRUCTION = Domain("feiqian/payments-instruction/v1")
_UETR = Domain("feiqian/payments-uetr/v1")


def alias_digest(deposit_asset: str, kind: str, number: str) -> bytes:
    """Return the digest of an account number at one agent; `number` in electronic form (no spaces, upper case)."""
    return _ALIAS.hash(encode((deposit_asset, kind, compact_number(number))))


def name_digest(deposit_asset: str, kind: str, number: str, name: str) -> bytes:
    """Return the digest of a holder's name, tied to its account number so that equal names do not look equal."""
    return _NAME.hash(encode((deposit_asset, kind, compact_number(number), normalised_name(name))))


def instruction_id(initiating_party: str, message_id: str, batch_id: str, end_to_end_id: str, ordinal: int) -> bytes:
    """Return the id under which a debtor's instruction is paid once.

    `ordinal` is 0, or the place among the payments of one batch that share an EndToEndId of `NOTPROVIDED`.
    """
    return _INSTRUCTION.hash(encode((initiating_party, message_id, batch_id, end_to_end_id, ordinal)))


def uetr_of(instruction: bytes) -> bytes:
    """Return the UETR of an instruction that came without one: the same each time, so that a resend is known."""
    digest = bytearray(_UETR.hash(instruction)[:16])
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def compact_number(number: str) -> str:
    """Return an account number without spaces, upper case."""
    return "".join(number.split()).upper()


def normalised_name(name: str) -> str:
    """Return a name as the name check compares it: NFKC, casefolded, without accents, letters and digits only.

    `Müller & Söhne GmbH` and `MULLER + SOHNE GMBH` are the same; words and their order count.
    """
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    kept = "".join(character if character.isalnum() else " " for character in decomposed if not _is_mark(character))
    return " ".join(kept.split())


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")
