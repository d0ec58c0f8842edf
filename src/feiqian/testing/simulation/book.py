"""Writes the modules' stories into blocks: every transaction's fate is stated by the story and checked by the model."""

from collections.abc import Sequence
from typing import NamedTuple

from feiqian.ledger.context import Message
from feiqian.testing.simulation import consortium
from feiqian.testing.simulation.world import STORE, Sent, World, parts


class Line(NamedTuple):
    """A transaction of a story and the (codespace, number) that it ends with, ("", 0) if it is done."""

    sent: Sent
    fate: tuple[str, int]


class Page(NamedTuple):
    """A block as it was run: height, time, transactions, what the ledger answered, its root afterwards."""

    height: int
    time_ms: int
    transactions: tuple[bytes, ...]
    app_hash: bytes


class Book:
    """What a module's `story` is given. Transactions are built as the model stands before their block."""

    def __init__(self) -> None:
        self.world = World(STORE)
        self.genesis_app_hash = b"" if self.world.store is None else self.world.store.app_hash
        self.pages: list[Page] = []
        self.fates: dict[tuple[type[Message], bool], int] = {}

    @property
    def names(self) -> dict[str, bytes]:
        """The consortium's accounts by name."""
        return self.world.names

    def tell(self) -> None:
        """Run every module's story, in name order."""
        for part in parts().values():
            if part.story is not None:
                part.story(self)
        self.world.close()

    def done(self, *messages: Message, by: Sequence[str] | None = None) -> Line:
        """Return a transaction that is to be done, signed by keys of these names."""
        return self._line(("", 0), messages, by)

    def refused(self, codespace: str, number: int, *messages: Message, by: Sequence[str] | None = None) -> Line:
        """Return a transaction that is to be refused."""
        return self._line((codespace, number), messages, by)

    def block(self, *lines: Line, after_ms: int = 1_000) -> None:
        """Run a block and check every fate; the world checks results, state, root and invariants."""
        world = self.world
        world.run_block([line.sent for line in lines], after_ms)
        answers = [(answer.codespace, answer.number) for answer in world.answers][len(world.answers) - len(lines) :]
        assert answers == [line.fate for line in lines], f"block {world.height}: {answers}"
        signed = tuple(line.sent.signed for line in lines)
        self.pages.append(Page(world.height, world.time_ms, signed, world.app_hash))
        for line in lines:
            if len(line.sent.messages) == 1:
                key = (type(line.sent.messages[0]), line.fate == ("", 0))
                self.fates[key] = self.fates.get(key, 0) + 1

    def open_proposals(self) -> list[bytes]:
        """Return governance's open proposals in the order in which they were made."""
        proposals = self.world.model.table("governance.proposals")
        return sorted(
            (key for key, proposal in proposals.items() if proposal.decision is None),
            key=lambda key: proposals[key].expiry_key[8:],
        )

    def account_of(self, member: str) -> bytes:
        """Return the administration account of a member that joined later."""
        return self.world.model.administrations[member]

    def _line(self, fate: tuple[str, int], messages: Sequence[Message], by: Sequence[str] | None) -> Line:
        keys = None if by is None else [consortium.KEYS[name].public for name in by]
        return Line(self.world.send(messages, keys), fate)
