"""What the node itself refuses: nothing is wrong with the transaction, there is no room for it."""

from feiqian.core.errors import InvalidTransaction


class NodeError(InvalidTransaction):
    """Root of the codespace. None of these is ever recorded on the ledger."""

    codespace = "node"


class PoolFull(NodeError):
    """The pool holds as much as its operator allows; send again later."""

    number = 1


class SponsorShareFull(NodeError):
    """The sponsor holds its share of the pool; send again later, others still have room."""

    number = 2


class TooLargeForBlock(NodeError):
    """The transaction is larger than a block of this ledger may be."""

    number = 3


ERRORS: tuple[type[NodeError], ...] = (PoolFull, SponsorShareFull, TooLargeForBlock)
