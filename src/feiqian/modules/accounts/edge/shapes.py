"""The bodies that the accounts routes answer with. Accounts are `fq1…`, ids and keys hex, times ms since 1970."""

from typing import Any

import msgspec

from feiqian.api.shapes import ErrorOf


class PendingBody(msgspec.Struct):
    """Messages that wait, or waited, for approval. `keys` proposed or approved, as `"scheme:hex"`.

    `status`: waiting, executed, failed (`error` says by which rule), withdrawn, expired.
    """

    id: str
    account: str
    status: str
    time_ms: int
    height: int
    expires_at_ms: int
    messages: list[dict[str, Any]]
    keys: list[str]
    error: ErrorOf | None
