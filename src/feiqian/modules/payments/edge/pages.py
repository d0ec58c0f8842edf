"""The console's pages of payments: an account's payments, and one followed by its UETR until it is provable."""

from pathlib import Path
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import Parameter

from feiqian.api.problems import NotFound
from feiqian.api.routes.accounts import list_accounts
from feiqian.api.routes.parameters import Asker, Cursor, Here
from feiqian.console.forms import lead_to
from feiqian.console.frame import show
from feiqian.console.navigation import ModulePages, NavigationEntry
from feiqian.core import addresses
from feiqian.modules.payments.edge import routes

PAGE = 50
ACCOUNTS_OFFERED = 200

ChosenAccount = Annotated[str, Parameter(query="account", max_length=90)]
WantedUetr = Annotated[str, Parameter(query="uetr", max_length=60)]


@get("/payments", opt=routes.list_payments.opt, include_in_schema=False)
async def show_payments(
    gateway: Here,
    reader: Asker,
    request: Request[Any, Any, Any],
    account: ChosenAccount = "",
    uetr: WantedUetr = "",
    cursor: Cursor = None,
) -> Response[Any]:
    """Page: the payments that an account sent and received, newest first."""
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
        scale_of=_scale_of(gateway),
        is_first=cursor is None,
    )


@get("/payments/{uetr:str}", opt=routes.find_payments.opt, include_in_schema=False)
async def show_payment(
    uetr: routes.UetrText, gateway: Here, reader: Asker, request: Request[Any, Any, Any]
) -> Response[str]:
    """Page: the payment with a UETR; one that waits for it where none is settled yet."""
    try:
        found = await routes.find_payments.fn(uetr, gateway, reader)
    except NotFound:
        found = []
    provable_height = _provable_height(gateway)
    is_waiting = not found or any(payment.height > provable_height for payment in found)
    return show(
        request,
        "payments/one.html",
        uetr=uetr.lower(),
        is_waiting=is_waiting,
        payments=[(payment, payment.height <= provable_height) for payment in found],
        scale_of=_scale_of(gateway),
    )


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
