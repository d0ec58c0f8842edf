"""Replay protection: an id is used up once, and remembered until the transaction could no longer come again."""

from typing import Protocol

from feiqian.ledger.errors import ExpiryTooFar, TransactionExpired, TransactionReplayed


class ReplayReader(Protocol):
    """What knows the ids used up by committed blocks."""

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        """Say whether the transaction with this expiry and id is used up."""
        ...


def check_window(expires_at_ms: int, block_time_ms: int, replay_window_ms: int) -> None:
    """Refuse an expiry outside [block time, block time + window], both ends accepted.

    Raises:
        TransactionExpired, ExpiryTooFar.
    """
    if expires_at_ms < block_time_ms:
        raise TransactionExpired(f"transaction expired at {expires_at_ms} ms; block time is {block_time_ms}")
    if expires_at_ms > block_time_ms + replay_window_ms:
        raise ExpiryTooFar(
            f"transaction expires at {expires_at_ms} ms; at most {replay_window_ms} ms after block time {block_time_ms}"
        )


def check_replay(reader: ReplayReader, expires_at_ms: int, tx_id: bytes) -> None:
    """Refuse an id that is used up.

    Raises:
        TransactionReplayed.
    """
    if reader.has_replay_id(expires_at_ms, tx_id):
        raise TransactionReplayed(f"transaction {tx_id.hex()} was already taken; it will not run twice")
