"""Clears the vault of what it need not keep: documents that no message ever named, and those whose time is over.

Goes through the vault in the order of commitments, a bounded batch a step. What is erased is what one reader could
erase by hand: wrapped keys, salt and ciphertext, for good.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from feiqian.index.documents import Mention, Mentions, mentions_of
from feiqian.index.reading import IndexReader
from feiqian.vault.store import KeptDocument, VaultStore

BATCH_DOCUMENTS = 200

BEGIN_MARGIN_MS = 24 * 3_600_000
"""How much block time may lag behind the clock by which documents are put, as it does after a halt."""


class Swept(NamedTuple):
    """What one step cleared: documents never named, those whose retention had ended; and whether it came to the end."""

    unnamed: int
    ended: int
    is_through: bool


class Sweeper:
    """Remembers where the next step goes on; each step may take a moment, so it is run on a thread.

    A document is put before the message that names it, which may wait for approval: it counts as unnamed once the
    longest approval, and the grace, have passed since. One that is named is kept until its retention has ended, and
    the grace after that has passed.

    A restored ledger's index may begin with a snapshot, and know nothing of what blocks before it named: documents from
    that time are left alone. They are erased by hand.
    """

    def __init__(
        self,
        vault: VaultStore,
        index: IndexReader,
        *,
        genesis_height: int,
        grace_ms: int,
        longest_approval_ms: Callable[[], int],
        clock_ms: Callable[[], int],
    ) -> None:
        """`genesis_height` is the one that the ledger's first block follows.

        `longest_approval_ms` gives how long a message may wait for approval on the ledger as it stands.
        """
        self._vault = vault
        self._index = index
        self._genesis_height = genesis_height
        self._grace_ms = grace_ms
        self._longest_approval_ms = longest_approval_ms
        self._clock_ms = clock_ms
        self._after = b""

    def step(self, height: int) -> Swept | None:
        """Clear one batch of what was put up to now; None where the index has not come to this height of the ledger.

        Raises:
            IndexAway: it does not answer.
        """
        documents = self._vault.kept_after(self._after, BATCH_DOCUMENTS)
        if not documents:
            self._after = b""
            return Swept(0, 0, True)
        mentions = mentions_of(self._index, [document.commitment for document in documents], height)
        if mentions is None:
            return None
        now_ms = self._clock_ms()
        begun_ms = self._begun_ms(mentions)
        unnamed_ms = now_ms - self._grace_ms - self._longest_approval_ms()
        unnamed: list[bytes] = []
        ended: list[bytes] = []
        for document in documents:
            mention = _mention_of(document, mentions.by_commitment.get(document.commitment, ()))
            if begun_ms is None or document.stored_at_ms < begun_ms:
                continue
            if mention is None:
                if document.stored_at_ms < unnamed_ms:
                    unnamed.append(document.commitment)
            elif mention.retain_until_ms < now_ms - self._grace_ms:
                ended.append(document.commitment)
        forgotten = self._vault.forget_all(unnamed) if unnamed else 0
        erased = self._vault.erase_all(ended, now_ms) if ended else 0
        is_through = len(documents) < BATCH_DOCUMENTS
        self._after = b"" if is_through else documents[-1].commitment
        return Swept(forgotten, erased, is_through)

    def _begun_ms(self, mentions: Mentions) -> int | None:
        """Return the time since when the index knows of every mention; None: not yet of any."""
        if mentions.first_time_ms is None or mentions.base_height == self._genesis_height:
            return mentions.first_time_ms
        return mentions.first_time_ms + BEGIN_MARGIN_MS


def _mention_of(document: KeptDocument, mentions: Sequence[Mention]) -> Mention | None:
    """Return the mention that counts, as `index.documents.reference_of` does: the first with exactly its readers."""
    return next((mention for mention in mentions if mention.readers == document.readers), None)
