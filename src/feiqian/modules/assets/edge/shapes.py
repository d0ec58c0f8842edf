"""The bodies that the assets routes answer with. Accounts are `fq1…`, ids and references hex, times ms since 1970."""

import msgspec


class HolderBody(msgspec.Struct):
    """An account that holds, or has held, an asset."""

    account: str
    member: str
    posted_minor: int
    is_frozen: bool
    is_listed: bool
    reason: str | None


class IssueBody(msgspec.Struct):
    """Units that were issued (> 0) to, or redeemed (< 0) from, an account."""

    time_ms: int
    height: int
    tx_id: str | None
    account: str
    amount_minor: int
    reference: str


class ControlBody(msgspec.Struct):
    """What an asset's controller did, and why; `kind`: frozen, released, transfer-forced, hold-voided."""

    time_ms: int
    height: int
    tx_id: str | None
    kind: str
    controller: str
    account: str
    other_account: str | None
    amount_minor: int | None
    reason: str


class HoldBody(msgspec.Struct):
    """Units reserved for a beneficiary; `status`: open, posted, voided, expired."""

    hold: str
    time_ms: int
    height: int
    account: str
    beneficiary: str
    asset: str
    amount_minor: int
    remaining_minor: int
    status: str
    expires_at_ms: int
    reference: str
