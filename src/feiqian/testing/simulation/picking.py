"""Random choices for drawing messages: mostly what the ledger would accept now, sometimes anything at all.

Hypothesis draws a few bytes for each step; the choices follow from them evenly. A failure replays, and shrinks to the
few steps that it needs.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from feiqian.core.signatures import PublicKey
from feiqian.ledger.context import Message
from feiqian.ledger.records import Policy, PolicyKey, PolicyRule, RoleThreshold
from feiqian.testing.simulation.consortium import KEYS
from feiqian.testing.simulation.model import BAD_KEYS, MAX_MINOR, MEANINGS, Model, Refusal, encoded

T = TypeVar("T")

UNKNOWN_ACCOUNT = b"\xee" * 32
UNKNOWN_ID = b"\xdd" * 32
UNKNOWN_ASSET = "NONE"
PUBLIC_KEYS: tuple[PublicKey, ...] = tuple(key.public for key in KEYS.values())


class Pick:
    """What a module's `draw` is given: choices, the model as it stands, and other messages where it needs some."""

    def __init__(
        self,
        source: random.Random,
        model: Model,
        names: dict[str, bytes],
        any_message: "Callable[[Pick], Message]",
        time_ms: int,
    ) -> None:
        self._source = source
        self._any_message = any_message
        self.model = model
        self.names = names
        self.time_ms = time_ms

    def integer(self, least: int, most: int) -> int:
        """Return a whole number within both ends."""
        return self._source.randint(least, most)

    def one(self, choices: Iterable[T]) -> T:
        """Return one of the choices."""
        listed = choices if isinstance(choices, Sequence) else list(choices)
        return listed[self.integer(0, len(listed) - 1)] if len(listed) > 1 else listed[0]

    def some(self, choices: Iterable[T], fallback: T) -> T:
        """Return one of the choices, the fallback where there is none, and rarely in any case."""
        listed = list(choices)
        return fallback if not listed or self.rarely() else self.one(listed)

    def rarely(self, times_in_twelve: int = 1) -> bool:
        """Say yes about once in twelve, or as often as told."""
        return self.integer(0, 11) >= 12 - times_in_twelve

    def account(self) -> bytes:
        """Return an open account, rarely none."""
        return self.some(sorted(self.model.accounts), UNKNOWN_ACCOUNT)

    def named(self, *names: str) -> bytes:
        """Return one of these accounts of the consortium, rarely any other."""
        return self.account() if self.rarely() else self.names[self.one(names)]

    def asset(self) -> str:
        """Return a defined asset, rarely none."""
        return self.some(sorted(self.model.assets), UNKNOWN_ASSET)

    def member(self) -> str:
        """Return a member, rarely nobody."""
        return self.some(sorted(self.model.members), "nobody")

    def holder(self, asset: str) -> bytes:
        """Return an account that has some of the asset free, rarely any other."""
        model = self.model
        issuing = model.assets[asset].issuance_account if asset in model.assets else b""
        rich = sorted(at for at, code in model.balances if code == asset and at != issuing and model.free(at, code) > 0)
        return self.account() if self.rarely() else self.some(rich, self.names["mill"])

    def listed(self, asset: str) -> bytes:
        """Return an account that may receive the asset, rarely any other."""
        model = self.model
        if asset not in model.assets or not model.assets[asset].is_allow_listed:
            return self.account()
        return self.some(
            sorted(at for at, code in model.balances if model.balances[at, code].is_listed), self.account()
        )

    def amount(self, around: int = 50) -> int:
        """Return an amount from 1 to 2^62: small, close to `around`, or extreme."""
        kind = self.integer(0, 11)
        if kind < 7:
            return self.integer(1, max(2, min(around, 10_000) // 4))
        if kind < 11:
            return min(max(1, around + self.integer(-1, 1)), MAX_MINOR)
        return self.one((1, MAX_MINOR, MAX_MINOR - 1, 10**15))

    def flag(self) -> bool:
        """Return yes or no."""
        return bool(self.integer(0, 1))

    def mark(self) -> bytes:
        """Return a short reference."""
        return self.one((b"", b"\x01", b"\xff" * 32))

    def later(self, longest_ms: int) -> int:
        """Return a time to come: soon, at the very end of what is allowed, beyond it, or already past."""
        kind = self.integer(0, 11)
        if kind < 8:
            return self.time_ms + self.integer(1_500, 200_000)
        if kind < 10:
            return self.time_ms + self.integer(1, min(longest_ms, 3 * 86_400_000))
        return self.time_ms + self.one((0, longest_ms, longest_ms + 10**9, 2**53 - self.time_ms))

    def policy(self) -> Policy:
        """Return a policy that can be met; rarely one that is refused."""
        count = self.integer(1, 3)
        keys = [
            PolicyKey(self.one(PUBLIC_KEYS), self.integer(1, 2), self.one(("owner", "maker"))) for _ in range(count)
        ]
        distinct = {entry.key: entry for entry in keys}
        if self.rarely():
            bad = self.one(list(BAD_KEYS))
            distinct[bad] = PolicyKey(bad, 1, "owner")
        ordered = sorted(distinct.values(), key=lambda entry: (entry.key.scheme, entry.key.data))
        if self.rarely():
            ordered = [*ordered, ordered[0]]
        role = ordered[0].role if not self.rarely() else "checker"
        needs = (RoleThreshold(role, self.one((1, 1, 1, 2))),)
        rule = PolicyRule(("*",), None, None, needs)
        kind = self.integer(0, 9)
        if kind == 7:
            rule = PolicyRule(("*",), None, 10, needs)
        if kind == 8:
            rule = PolicyRule(("assets.*", "assets.*"), None, None, needs)
        if kind == 9:
            rule = PolicyRule(("*",), None, None, (*needs, *needs))
        first = PolicyRule(("assets.Transfer",), self.asset(), 20, (RoleThreshold(ordered[0].role, 1),))
        return Policy(tuple(ordered), (first, rule) if self.flag() else (rule,))

    def proposed(self, *messages: Message) -> bytes:
        """Return a message as a proposal carries it, one of the given if there are any; rarely bytes that are none."""
        if self.rarely():
            junk, number = self.one(((b"junk", 1), (b"", 1), (b"\x91\xa5other", 1)))
            MEANINGS[junk] = Refusal("core", number)
            return junk
        message = self.one(messages) if messages else self._any_message(self)
        data = encoded(message)
        if self.rarely() and data[1:2] in {bytes([0xA0 | length]) for length in range(32)}:
            # The tag's length in two bytes where one would do: it decodes, and is not canonical.
            long_form = data[:1] + b"\xd9" + bytes([data[1] & 31]) + data[2:]
            MEANINGS[long_form] = Refusal("core", 2)
            return long_form
        return data

    def message(self) -> Message:
        """Return a random message of any module."""
        return self._any_message(self)
