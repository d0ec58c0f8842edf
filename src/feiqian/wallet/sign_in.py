"""Signing in: what a wallet checks before it signs a gateway's challenge."""

import base64
import re
from typing import Annotated, NamedTuple

import msgspec

from feiqian.core import addresses
from feiqian.wallet.keys import KEY_CLASSES, SigningKey

CHALLENGE_DOMAIN = b"feiqian/session-challenge/v1\x00"
"""What is signed to sign in starts with this, so that such a signature can never stand under a transaction."""


class ChallengeSuspicious(ValueError):
    """A challenge that asks for a signature over something else than signing in here."""


def sign_challenge(bytes_to_sign: bytes, chain_id: str, audience: str, key: SigningKey) -> bytes:
    """Return the 64-byte signature that opens a session.

    Raises:
        ChallengeSuspicious: the bytes lack the domain of challenges, or name another ledger or host.
    """
    if not bytes_to_sign.startswith(CHALLENGE_DOMAIN):
        raise ChallengeSuspicious("the gateway asks to sign something that is no sign-in challenge; nothing was signed")
    asked = _read_body(bytes_to_sign.removeprefix(CHALLENGE_DOMAIN))
    for what, expected, found in (("ledger", chain_id, asked.chain_id), ("host", audience, asked.audience)):
        if found != expected:
            raise ChallengeSuspicious(
                f"the challenge is for the {what} {found!r}, not {expected!r}; nothing was signed"
            )
    return key.sign(bytes_to_sign)


class Challenge(NamedTuple):
    """What a challenge says in clear: for which ledger, asked by which host, for which account, good until when."""

    bytes_to_sign: bytes
    chain_id: str
    audience: str
    account: str
    expires_at_ms: int


class BadAnswer(ValueError):
    """Text that is no answer to a challenge."""


_Fields = tuple[str, str, Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)], bytes, int, bytes]
_SCHEMES = {name: key_class.scheme for name, key_class in KEY_CLASSES.items()}
_ANSWER = re.compile(r"([a-z0-9]{2,16}):([0-9a-f]{64,128}):([0-9a-f]{128})", re.ASCII)


def read_challenge(text: str) -> Challenge:
    """Return what a challenge says, given as the sign-in page shows it (base64url).

    What is to be signed is put together here, so that nothing but a challenge can be signed by it.

    Raises:
        ChallengeSuspicious: it is no challenge.
    """
    try:
        body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise ChallengeSuspicious("this is no sign-in challenge; copy all of it; nothing was signed") from None
    return _read_body(body)


def _read_body(body: bytes) -> Challenge:
    try:
        chain_id, audience, account, _, expires_at_ms, _ = msgspec.msgpack.decode(body, type=_Fields)
    except (ValueError, msgspec.MsgspecError):
        raise ChallengeSuspicious("this is no sign-in challenge; copy all of it; nothing was signed") from None
    return Challenge(CHALLENGE_DOMAIN + body, chain_id, audience, addresses.to_text(account), expires_at_ms)


def answer_text(key: SigningKey, signature: bytes) -> str:
    """Return the line that answers a challenge: scheme, public key and signature, with colons between."""
    name = next(name for name, scheme in _SCHEMES.items() if scheme == key.public.scheme)
    return f"{name}:{key.public.data.hex()}:{signature.hex()}"


def read_answer(text: str) -> tuple[int, bytes, bytes]:
    """Return scheme id, public key and signature of such a line.

    Raises:
        BadAnswer: not such a line, or of an unknown scheme.
    """
    matched = _ANSWER.fullmatch("".join(text.split()))
    if matched is None or matched[1] not in _SCHEMES or len(matched[2]) % 2:
        raise BadAnswer(f"the answer is one line SCHEME:KEY:SIGNATURE, the scheme one of {', '.join(sorted(_SCHEMES))}")
    return _SCHEMES[matched[1]], bytes.fromhex(matched[2]), bytes.fromhex(matched[3])
