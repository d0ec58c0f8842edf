"""Sign-in: a challenge signed by a key of an account's policy gives a short bearer token. The gateway keeps no secrets
of anyone; a token is only a signed statement of who signed in, checked against present state at every request.
"""

import base64
import hmac
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from litestar.connection import ASGIConnection
from msgspec import Meta

from feiqian.api.access import ANONYMOUS, Reader
from feiqian.api.problems import ChallengeInvalid
from feiqian.core.addresses import Address
from feiqian.core.encoding import Codec, Record, TimeMs, encode
from feiqian.core.errors import InvalidTransaction
from feiqian.core.signatures import PublicKey, verify
from feiqian.core.transactions import ChainId
from feiqian.ledger.accounts import ACCOUNTS, administration_of
from feiqian.ledger.members import MEMBERS
from feiqian.process.native import mute_native_output
from feiqian.state.tables import BlockState
from feiqian.state.tables import Reader as StateReader
from feiqian.wallet.sign_in import CHALLENGE_DOMAIN

CHALLENGE_LIFETIME_MS = 300_000
"""Long enough for a person to copy it to where the key is and its answer back."""

COOKIE = "feiqian_session"
MAX_TOKEN_CHARACTERS = 1024

Clock = Callable[[], int]
Mac = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Challenge(Record):
    """What a wallet signs to sign in. `audience` is the host that it was asked by; a wallet checks that it is its own.

    `mac` is the gateway's own mark, by which it knows its challenge again without keeping it.
    """

    chain_id: ChainId
    audience: Annotated[str, Meta(max_length=255)]
    account: Address
    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]
    expires_at_ms: TimeMs
    mac: Annotated[bytes, Meta(max_length=32)]


class Token(Record):
    """Who signed in, with which key, until when."""

    id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    account: Address
    key: PublicKey
    expires_at_ms: TimeMs


class OpenSession(NamedTuple):
    """A session just opened, or the one that a request came with."""

    token: str
    reader: Reader
    expires_at_ms: int


_CHALLENGE: Codec[Challenge] = Codec(Challenge, "challenge")
_TOKEN: Codec[Token] = Codec(Token, "token")


class Sessions:
    """Signs people in and knows them again."""

    def __init__(
        self, state: StateReader, chain_id: str, key: bytes, lifetime_ms: int, *, clock: Clock | None = None
    ) -> None:
        """`key` signs tokens. Challenges get the mark of a key that ends with this process: each is good here only."""
        self._state = state
        self._chain_id = chain_id
        self._key = key
        self._challenge_key = secrets.token_bytes(32)
        self.lifetime_ms = lifetime_ms
        self._now_ms = clock or _wall_clock_ms
        self._used: dict[bytes, int] = {}
        self._ended: dict[bytes, int] = {}

    def challenge(self, account: bytes, audience: str) -> Challenge:
        """Return a challenge for an account, whether it is open or not: this tells nobody which are."""
        expires_at_ms = self._now_ms() + CHALLENGE_LIFETIME_MS
        bare = Challenge(self._chain_id, audience[:255], account, secrets.token_bytes(16), expires_at_ms, b"")
        return _with_mac(bare, self._mac_of(bare))

    def open(self, challenge: bytes, key: PublicKey, signature: bytes) -> OpenSession:
        """Sign in with a challenge and a key's signature over `CHALLENGE_DOMAIN` and the challenge's bytes.

        Raises:
            ChallengeInvalid: not a challenge of this process, used, expired, or not signed by a key of the account,
                or the account's member may not act.
        """
        asked = self._use_up(challenge)
        with mute_native_output():
            holds = verify(key, CHALLENGE_DOMAIN + challenge, signature)
        if not holds:
            raise ChallengeInvalid("the signature over the challenge does not verify")
        token = Token(secrets.token_bytes(16), asked.account, key, self._now_ms() + self.lifetime_ms)
        reader = self._reader_of_token(token)
        if reader.member is None:
            raise ChallengeInvalid("the key is in no policy of that account, or its member may not act")
        body = encode(token)
        text = base64.urlsafe_b64encode(body + self._sign(body)).decode().rstrip("=")
        return OpenSession(text, reader, token.expires_at_ms)

    def reader_of(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Reader:
        """Return who sends this request; anonymous where it carries no token or one that no longer holds."""
        found = self.find(_token_text(connection))
        return ANONYMOUS if found is None else found.reader

    def find(self, text: str | None) -> OpenSession | None:
        """Return the session of a token as state has its account now, or None where it does not hold."""
        token = self._read(text)
        if token is None or token.id in self._ended or token.expires_at_ms <= self._now_ms():
            return None
        reader = self._reader_of_token(token)
        return None if reader.member is None or text is None else OpenSession(text, reader, token.expires_at_ms)

    def session_of(self, connection: ASGIConnection[Any, Any, Any, Any]) -> OpenSession | None:
        """Return the session that this request carries."""
        return self.find(_token_text(connection))

    def end(self, text: str) -> None:
        """Sign out: the token holds no longer at this gateway."""
        token = self._read(text)
        if token is not None:
            _forget_old(self._ended, self._now_ms())
            self._ended[token.id] = token.expires_at_ms

    def _use_up(self, data: bytes) -> Challenge:
        try:
            challenge = _CHALLENGE.decode(data)
        except InvalidTransaction:
            raise ChallengeInvalid("not a challenge of this gateway") from None
        if not hmac.compare_digest(challenge.mac, self._mac_of(_with_mac(challenge, b""))):
            raise ChallengeInvalid("not a challenge of this gateway")
        now_ms = self._now_ms()
        if challenge.expires_at_ms <= now_ms:
            raise ChallengeInvalid("the challenge has expired; ask for another")
        _forget_old(self._used, now_ms)
        if challenge.nonce in self._used:
            raise ChallengeInvalid("the challenge was used before; ask for another")
        self._used[challenge.nonce] = challenge.expires_at_ms
        return challenge

    def _reader_of_token(self, token: Token) -> Reader:
        state = BlockState(self._state)
        account = ACCOUNTS.get(state, token.account)
        if account is None or all(entry.key != token.key for entry in account.policy.keys):
            return ANONYMOUS
        member = MEMBERS.get(state, account.member.encode())
        if member is None or member.is_suspended:
            return ANONYMOUS
        is_administration = administration_of(state, account.member) == token.account
        return Reader(account.member, token.account, member.roles, is_administration)

    def _read(self, text: str | None) -> Token | None:
        if text is None or len(text) > MAX_TOKEN_CHARACTERS:
            return None
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        body, mark = data[:-32], data[-32:]
        if not hmac.compare_digest(mark, self._sign(body)):
            return None
        try:
            return _TOKEN.decode(body)
        except InvalidTransaction:
            return None

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"feiqian/session-token/v1\x00" + body, "sha256")

    def _mac_of(self, bare: Challenge) -> bytes:
        return hmac.digest(self._challenge_key, encode(bare), "sha256")


def load_or_make_key(path: Path) -> bytes:
    """Return the 32 bytes that sign tokens, made at first; gateways that share the file know each other's tokens."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    # Another gateway may be between making the file and writing it.
    for _ in range(50):
        key = path.read_bytes()
        if len(key) == 32:
            return key
        time.sleep(0.02)
    path.unlink()
    return load_or_make_key(path)


def _with_mac(challenge: Challenge, mac: bytes) -> Challenge:
    return Challenge(
        challenge.chain_id, challenge.audience, challenge.account, challenge.nonce, challenge.expires_at_ms, mac
    )


def _token_text(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    header = connection.headers.get("authorization", "")
    scheme, _, text = header.partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return connection.cookies.get(COOKIE)


def _forget_old(entries: dict[bytes, int], now_ms: int) -> None:
    if len(entries) < 1024:
        return
    for key in [key for key, expires_at_ms in entries.items() if expires_at_ms <= now_ms]:
        del entries[key]


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000
