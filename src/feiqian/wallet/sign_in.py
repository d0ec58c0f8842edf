"""Signing in: what a wallet checks before it signs a gateway's challenge."""

from feiqian.wallet.keys import SigningKey

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
    for what, name in (("ledger", chain_id), ("host", audience)):
        if name.encode() not in bytes_to_sign:
            raise ChallengeSuspicious(f"the challenge is not for the {what} {name!r}; nothing was signed")
    return key.sign(bytes_to_sign)
