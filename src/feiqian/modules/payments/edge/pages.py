"""The console's pages of payments: an account's, settled and rejected; one followed by its UETR until provable."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.params import Parameter

from feiqian.api.gateway import Gateway
from feiqian.api.problems import NotFound
from feiqian.api.routes.accounts import list_accounts
from feiqian.api.routes.parameters import Asker, Cursor, Here
from feiqian.api.threads import on_thread
from feiqian.console.forms import lead_to
from feiqian.console.frame import show
from feiqian.console.navigation import ModulePages, NavigationEntry
from feiqian.core import addresses
from feiqian.modules.payments.edge import routes
from feiqian.modules.payments.edge.shapes import RejectionBody

PAGE = 50
REJECTED_PAGE = 20
ACCOUNTS_OFFERED = 200

ChosenAccount = Annotated[str, Parameter(query="account", max_length=90)]
RejectedCursor = Annotated[str | None, Parameter(query="rejected", max_length=400)]
WantedUetr = Annotated[str, Parameter(query="uetr", max_length=60)]


@get("/payments", opt=routes.list_payments.opt, include_in_schema=False)
async def show_payments(
    gateway: Here,
    reader: Asker,
    request: Request[Any, Any, Any],
    account: ChosenAccount = "",
    uetr: WantedUetr = "",
    cursor: Cursor = None,
    rejected: RejectedCursor = None,
) -> Response[Any]:
    """Page: the payments that an account sent and received, and those rejected of its files, newest first."""
    if uetr.strip():
        return lead_to(f"/payments/{uetr.strip().lower()}")
    offered = await list_accounts.fn(gateway, reader, None, ACCOUNTS_OFFERED)
    assert reader.account is not None, "who is signed in has an account"
    chosen = account.strip() or addresses.to_text(reader.account)
    page = await routes.list_payments.fn(gateway, reader, chosen, cursor, PAGE)
    own = [item.address for item in offered.items]
    return show(
        request,
        "payments/list.html",
        chosen=chosen,
        accounts=own if chosen in own else [chosen, *own],
        page=page,
        rejections=await routes.list_rejected.fn(gateway, reader, chosen, rejected, REJECTED_PAGE),
        rejected=rejected,
        scale_of=_scale_of(gateway),
        is_first=cursor is None,
    )


@get("/payments/{uetr:str}", opt=routes.find_payments.opt, include_in_schema=False)
async def show_payment(
    uetr: routes.UetrText, gateway: Here, reader: Asker, request: Request[Any, Any, Any]
) -> Response[str]:
    """Page: the payment with a UETR; where none is settled, why it was rejected, or one that waits for it."""
    try:
        found = await routes.find_payments.fn(uetr, gateway, reader)
    except NotFound:
        found = []
    rejections = [] if found else await routes.find_rejected(gateway, reader, UUID(uetr).bytes)
    provable_height = _provable_height(gateway)
    is_waiting = not found or any(payment.height > provable_height for payment in found)
    return show(
        request,
        "payments/one.html",
        uetr=uetr.lower(),
        is_waiting=is_waiting,
        rejections=rejections,
        has_page=await on_thread(_those_on_the_ledger, gateway, rejections),
        payments=[(payment, payment.height <= provable_height) for payment in found],
        scale_of=_scale_of(gateway),
    )


def _those_on_the_ledger(gateway: Gateway, rejections: Sequence[RejectionBody]) -> set[str]:
    """Return the ids of the transactions that have a page; what was refused before the ledger has none."""
    ids = [bytes.fromhex(item.tx_id) for item in rejections if item.tx_id is not None]
    return {tx_id.hex() for tx_id in gateway.lookup(ids)}


def _provable_height(gateway: Here) -> int:
    archived = gateway.ledger.store.archived_heights()
    return 0 if archived is None else archived[1] - 1


def _scale_of(gateway: Here) -> Any:
    def scale_of(code: str) -> int:
        asset = gateway.ledger.asset(code)
        return 0 if asset is None else asset.scale

    return scale_of


PAGES = ModulePages(
    handlers=(show_payments, show_payment),
    templates=Path(__file__).parent / "templates",
    navigation=(NavigationEntry("/payments", {"zh": "付款", "en": "Payments"}, 50),),
)
