"""What the state room refuses: questions that it cannot answer and files that do not hold what they claim."""

from feiqian.core.errors import InvalidTransaction


class StateError(InvalidTransaction):
    """Root of what `state` itself refuses; the asker's fault or the file's, never ours."""

    codespace = "state"


class OutsideWindow(StateError):
    """A height that this node no longer holds or does not hold yet."""

    number = 1

    def __init__(self, height: int, first: int, last: int) -> None:
        super().__init__(f"height {height} is not held here; ask for {first} to {last}")
        self.first = first
        self.last = last


class SnapshotRefused(StateError):
    """A snapshot file that is damaged, not canonical, or not the state that its reader trusts."""

    number = 2


class SegmentRefused(StateError):
    """A segment file that is damaged or does not continue the chain before it."""

    number = 3
