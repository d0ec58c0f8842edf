"""How assets takes part in the simulation: definitions, issues, transfers, holds, freezes, lists, forced movements."""

from collections.abc import Mapping

from feiqian.ledger.context import Message
from feiqian.ledger.records import Asset
from feiqian.modules.assets.messages import (
    AllowHolder,
    BatchLeg,
    BatchTransfer,
    Define,
    DisallowHolder,
    ForcedTransfer,
    ForcedVoidHold,
    Freeze,
    Issue,
    PlaceHold,
    PostHold,
    Redeem,
    Release,
    Transfer,
    VoidHold,
)
from feiqian.testing.simulation import Simulation
from feiqian.testing.simulation.consortium import GENESIS_MS
from feiqian.testing.simulation.model import (
    MAX_MINOR,
    BalanceFacts,
    HoldFacts,
    Model,
    Rule,
    Run,
    account_of,
    active_member,
    administered_by,
    asset_of,
    hold_of,
    place_hold,
    post,
    post_hold,
    refuse,
    void_hold,
)
from feiqian.testing.simulation.picking import UNKNOWN_ID, Pick

LONGEST_HOLD_MS = 366 * 86_400_000
REASONS = (
    "COURT_ORDER",
    "REGULATOR_ORDER",
    "SANCTIONS",
    "FRAUD",
    "INSOLVENCY",
    "ERROR_CORRECTION",
    "LOST_KEY",
    "HOLDER_REQUEST",
    "ORDER_LIFTED",
)

GENESIS = [
    {
        "code": "EUR.cb",
        "name": "Central bank euro of Nowhere",
        "scale": 2,
        "issuer": "mint",
        "issuance_account": "@mint",
        "supply_cap": "46116860184273879.04",
        "currency": "EUR",
    },
    {
        "code": "EUR.north",
        "name": "Deposits at North",
        "scale": 2,
        "issuer": "north",
        "issuance_account": "@north",
        "supply_cap": "46116860184273879.04",
        "currency": "EUR",
    },
    {
        "code": "EUR.south",
        "name": "Deposits at South",
        "scale": 2,
        "issuer": "south",
        "issuance_account": "@south",
        "supply_cap": "200.00",
        "currency": "EUR",
    },
    {
        "code": "GLD",
        "name": "Gold of Nowhere",
        "scale": 0,
        "issuer": "mint",
        "issuance_account": "@mint",
        "supply_cap": "3000",
        "flags": ["freezable", "allow-listed"],
        "transfer_limit": "100",
        "daily_limit": "250",
        "controller": "@watch",
    },
    {
        "code": "OIL",
        "name": "Oil of Nowhere",
        "scale": 0,
        "issuer": "mint",
        "issuance_account": "@mint",
        "supply_cap": "100000",
        "flags": ["freezable"],
        "controller": "@watch-2",
    },
]


def found(model: Model, names: Mapping[str, bytes]) -> None:
    """Write the assets of `GENESIS`."""
    north, south, mint = names["north"], names["south"], names["mint"]
    plans = {
        "EUR.cb": Asset(2, "mint", mint, 2**62, False, False, None, None, None, "Central bank euro of Nowhere", "EUR"),
        "EUR.north": Asset(2, "north", north, 2**62, False, False, None, None, None, "Deposits at North", "EUR"),
        "EUR.south": Asset(2, "south", south, 20_000, False, False, None, None, None, "Deposits at South", "EUR"),
        "GLD": Asset(0, "mint", mint, 3_000, True, True, 100, 250, names["watch"], "Gold of Nowhere", None),
        "OIL": Asset(0, "mint", mint, 100_000, True, False, None, None, names["watch-2"], "Oil of Nowhere", None),
    }
    for code, asset in plans.items():
        model.assets[code] = asset
        model.balances[asset.issuance_account, code] = BalanceFacts(
            limit=asset.supply_cap_minor, is_listed=asset.is_allow_listed
        )


def opening(names: Mapping[str, bytes]) -> list[Message]:
    """Return first issues, and the listings that gold needs."""
    mint, mill, shop = names["mint"], names["mill"], names["shop"]
    return [
        *[AllowHolder(mint, account, "GLD") for account in (mill, shop, names["mill-board"])],
        Issue(mint, mill, "GLD", 1_000, b""),
        Issue(mint, shop, "OIL", 5_000, b""),
        Issue(mint, names["mill-board"], "OIL", 500, b""),
        Issue(mint, names["north-settling"], "EUR.cb", 4_000, b""),
        Issue(mint, names["south"], "EUR.cb", 400, b""),
        Issue(names["north"], mill, "EUR.north", 9_000, b""),
        Issue(names["north"], names["mill-board"], "EUR.north", 900, b""),
        Issue(names["south"], shop, "EUR.south", 3_000, b""),
        PlaceHold(shop, mill, "OIL", 200, GENESIS_MS + 30_000_000, b""),
        PlaceHold(shop, names["watch"], "OIL", 300, GENESIS_MS + 30_000_000, b""),
    ]


def issuing(pick: Pick, code: str) -> bytes:
    """Return the asset's issuance account, rarely any other."""
    return (
        pick.account() if pick.rarely() or code not in pick.model.assets else pick.model.assets[code].issuance_account
    )


def controlling(pick: Pick, code: str) -> bytes:
    """Return the asset's controller, rarely any other account."""
    asset = pick.model.assets.get(code)
    return pick.account() if asset is None or asset.controller is None or pick.rarely() else asset.controller


def controlled(pick: Pick) -> str:
    """Return an asset that has a controller, rarely any other."""
    return pick.some(sorted(code for code, asset in pick.model.assets.items() if asset.controller), pick.asset())


# --- definitions ---


def draw_define(pick: Pick) -> Define:
    account = pick.named("north", "south", "mint", "mill")
    issuer = pick.model.accounts[account].member if account in pick.model.accounts else "mint"
    own = sorted(at for at, facts in pick.model.accounts.items() if facts.member == issuer)
    cap = pick.one((1_000, 5_000, MAX_MINOR))
    is_freezable = pick.flag()
    return Define(
        account=account,
        code=pick.one(("NEW", "BOND")) + "." + (issuer if not pick.rarely() else "mint"),
        name="new",
        currency=pick.one((None, "EUR")),
        scale=pick.one((0, 2)),
        issuance_account=pick.some(own, pick.account()),
        supply_cap_minor=cap,
        is_freezable=is_freezable,
        is_allow_listed=pick.rarely(4),
        transfer_limit_minor=pick.one((None, 100, 600, 2_000)),
        daily_limit_minor=pick.one((None, 500, 2_000)),
        controller=pick.account() if is_freezable != pick.rarely() else None,
    )


def define(run: Run, message: Define) -> None:
    model = run.model
    issuer = administered_by(model, message.account)
    refuse(not message.code.endswith("." + issuer), "assets", 8)
    refuse(not {"bank", "issuer"} & set(active_member(model, issuer).roles), "assets", 9)
    cap = message.supply_cap_minor
    daily = cap if message.daily_limit_minor is None else message.daily_limit_minor
    refuse(daily > cap or (message.transfer_limit_minor or 0) > daily, "assets", 10)
    refuse(message.code in model.assets, "ledger", 14)
    refuse(account_of(model, message.issuance_account).member != issuer, "ledger", 15)
    if message.controller is not None:
        account_of(model, message.controller)
    refuse(message.is_freezable and message.controller is None, "ledger", 15)
    model.assets[message.code] = Asset(
        message.scale,
        issuer,
        message.issuance_account,
        cap,
        message.is_freezable,
        message.is_allow_listed,
        message.transfer_limit_minor,
        message.daily_limit_minor,
        message.controller,
        message.name,
        message.currency,
    )
    model.balances[message.issuance_account, message.code] = BalanceFacts(limit=cap, is_listed=message.is_allow_listed)


# --- issue, redeem, transfer ---


def draw_issue(pick: Pick) -> Issue:
    code = pick.asset()
    account = issuing(pick, code)
    amount = pick.amount(pick.model.free(account, code) if pick.rarely(3) else 4_000)
    return Issue(account, pick.listed(code), code, amount, pick.mark())


def issue(run: Run, message: Issue) -> None:
    refuse(asset_of(run.model, message.asset).issuance_account != message.issuance_account, "assets", 1)
    refuse(message.payee == message.issuance_account, "assets", 2)
    move(run, message.issuance_account, message.payee, message.asset, message.amount_minor)


def draw_redeem(pick: Pick) -> Redeem:
    code = pick.asset()
    account = pick.holder(code)
    return Redeem(account, code, pick.amount(pick.model.free(account, code)), pick.mark())


def redeem(run: Run, message: Redeem) -> None:
    issuance = asset_of(run.model, message.asset).issuance_account
    refuse(message.account == issuance, "assets", 2)
    move(run, message.account, issuance, message.asset, message.amount_minor)


def draw_transfer(pick: Pick) -> Transfer:
    code = pick.asset()
    payer = pick.holder(code)
    payee = payer if pick.rarely() else pick.listed(code)
    return Transfer(payer, payee, code, pick.amount(pick.model.free(payer, code)), pick.mark())


def transfer(run: Run, message: Transfer) -> None:
    refuse(message.payer == message.payee, "assets", 2)
    issuance = asset_of(run.model, message.asset).issuance_account
    refuse(issuance in (message.payer, message.payee), "assets", 3)
    move(run, message.payer, message.payee, message.asset, message.amount_minor)


def draw_batch(pick: Pick) -> BatchTransfer:
    code = pick.asset()
    payer = pick.holder(code)
    count = pick.integer(1, 5)
    around = pick.model.free(payer, code) // count
    payees = [pick.listed(code) for _ in range(count)]
    return BatchTransfer(payer, code, tuple(BatchLeg(payee, pick.amount(around), pick.mark()) for payee in payees))


def draw_crowd(pick: Pick) -> BatchTransfer:
    payer = pick.names[pick.one(("shop", "mill", "watch"))]
    return BatchTransfer(payer, pick.one(("OIL", "EUR.north")), tuple([BatchLeg(pick.account(), 1, b"")] * 1_000))


def batch(run: Run, message: BatchTransfer) -> None:
    issuance = asset_of(run.model, message.asset).issuance_account
    refuse(message.payer == issuance, "assets", 3)
    for leg in message.legs:
        refuse(leg.payee == message.payer, "assets", 2)
        refuse(leg.payee == issuance, "assets", 3)
    total = sum(leg.amount_minor for leg in message.legs)
    refuse(total > MAX_MINOR, "core", 7)
    credits_ = [(leg.payee, message.asset, leg.amount_minor) for leg in message.legs]
    post(run, [(message.payer, message.asset, -total), *credits_])


def move(run: Run, payer: bytes, payee: bytes, code: str, amount: int) -> None:
    post(run, [(payer, code, -amount), (payee, code, amount)])


# --- holds ---


def draw_place(pick: Pick) -> PlaceHold:
    code = pick.asset()
    account = pick.holder(code)
    beneficiary = account if pick.rarely() else pick.account()
    amount = pick.amount(pick.model.free(account, code))
    return PlaceHold(account, beneficiary, code, amount, pick.later(LONGEST_HOLD_MS), pick.mark())


def place(run: Run, message: PlaceHold) -> None:
    refuse(message.account == message.beneficiary, "assets", 2)
    refuse(asset_of(run.model, message.asset).issuance_account in (message.account, message.beneficiary), "assets", 3)
    refuse(message.expires_at_ms > run.time_ms + LONGEST_HOLD_MS, "assets", 7)
    place_hold(
        run,
        message.account,
        message.beneficiary,
        message.asset,
        message.amount_minor,
        "assets",
        message.reference,
        message.expires_at_ms,
    )


def a_hold(pick: Pick) -> tuple[bytes, HoldFacts | None]:
    """Return an open hold, rarely none."""
    hold = pick.some(sorted(pick.model.holds), UNKNOWN_ID)
    return hold, pick.model.holds.get(hold)


def draw_post(pick: Pick) -> PostHold:
    hold, facts = a_hold(pick)
    beneficiary = pick.account() if facts is None or pick.rarely() else beneficiary_of(facts)
    code = pick.asset() if facts is None or pick.rarely() else facts.asset
    return PostHold(hold, beneficiary, code, pick.amount(50 if facts is None else facts.amount), pick.flag())


def post_(run: Run, message: PostHold) -> None:
    facts = hold_of(run.model, message.hold, "assets")
    refuse(facts.beneficiary != message.beneficiary, "assets", 5)
    refuse(facts.asset != message.asset, "assets", 6)
    post_hold(run, message.hold, message.beneficiary, message.amount_minor, is_final=message.is_final)


def draw_void(pick: Pick) -> VoidHold:
    hold, facts = a_hold(pick)
    return VoidHold(hold, pick.account() if facts is None or pick.rarely() else beneficiary_of(facts))


def beneficiary_of(facts: HoldFacts) -> bytes:
    assert facts.beneficiary is not None, "this module places holds for somebody"
    return facts.beneficiary


def void(run: Run, message: VoidHold) -> None:
    refuse(hold_of(run.model, message.hold, "assets").beneficiary != message.beneficiary, "assets", 5)
    void_hold(run, message.hold)


def draw_forced_void(pick: Pick) -> ForcedVoidHold:
    hold, facts = a_hold(pick)
    code = pick.asset() if facts is None or pick.rarely() else facts.asset
    return ForcedVoidHold(controlling(pick, code), hold, code, reason(pick))


def forced_void(run: Run, message: ForcedVoidHold) -> None:
    facts = hold_of(run.model, message.hold, "assets")
    refuse(facts.asset != message.asset, "assets", 6)
    check_controller(run, message)
    void_hold(run, message.hold)


# --- control ---


def reason(pick: Pick) -> str:
    return "BECAUSE" if pick.rarely() else pick.one(REASONS)


def check_controller(run: Run, message: ForcedVoidHold | ForcedTransfer | Freeze | Release) -> None:
    refuse(asset_of(run.model, message.asset).controller != message.controller, "ledger", 26)
    refuse(message.reason not in REASONS, "assets", 4)


def draw_freeze(pick: Pick) -> Freeze:
    code = controlled(pick)
    return Freeze(controlling(pick, code), pick.holder(code), code, reason(pick))


def draw_release(pick: Pick) -> Release:
    frozen = sorted(key for key, balance in pick.model.balances.items() if balance.is_frozen)
    account, code = pick.some(frozen, (pick.account(), controlled(pick)))
    return Release(controlling(pick, code), account, code, reason(pick))


def freeze(run: Run, message: Freeze) -> None:
    set_frozen(run, message, True)


def release(run: Run, message: Release) -> None:
    set_frozen(run, message, False)


def set_frozen(run: Run, message: Freeze | Release, is_frozen: bool) -> None:
    check_controller(run, message)
    refuse(not run.model.assets[message.asset].is_freezable, "ledger", 28)
    account_of(run.model, message.account)
    refuse(run.model.balance(message.account, message.asset).is_frozen == is_frozen, "ledger", 49)
    run.model.set_balance(message.account, message.asset, is_frozen=is_frozen)


def listing_asset(pick: Pick) -> str:
    return pick.some(sorted(code for code, asset in pick.model.assets.items() if asset.is_allow_listed), pick.asset())


def draw_allow(pick: Pick) -> AllowHolder:
    code = listing_asset(pick)
    return AllowHolder(issuing(pick, code), pick.account(), code)


def draw_disallow(pick: Pick) -> DisallowHolder:
    code = listing_asset(pick)
    return DisallowHolder(issuing(pick, code), pick.listed(code), code)


def allow(run: Run, message: AllowHolder) -> None:
    set_listed(run, message, True)


def disallow(run: Run, message: DisallowHolder) -> None:
    set_listed(run, message, False)


def set_listed(run: Run, message: AllowHolder | DisallowHolder, is_listed: bool) -> None:
    asset = asset_of(run.model, message.asset)
    refuse(asset.issuance_account != message.issuance_account, "assets", 1)
    refuse(not is_listed and message.account == asset.issuance_account, "assets", 3)
    refuse(not asset.is_allow_listed, "ledger", 29)
    account_of(run.model, message.account)
    refuse(run.model.balance(message.account, message.asset).is_listed == is_listed, "ledger", 49)
    run.model.set_balance(message.account, message.asset, is_listed=is_listed)


def draw_forced(pick: Pick) -> ForcedTransfer:
    code = controlled(pick)
    payer = pick.holder(code)
    payee = payer if pick.rarely() else pick.listed(code)
    amount = pick.amount(pick.model.free(payer, code))
    return ForcedTransfer(controlling(pick, code), payer, payee, code, amount, reason(pick), pick.mark())


def forced(run: Run, message: ForcedTransfer) -> None:
    check_controller(run, message)
    refuse(message.payer == message.payee, "assets", 2)
    refuse(run.model.assets[message.asset].issuance_account == message.payer, "assets", 3)
    amount = message.amount_minor
    legs = [(message.payer, message.asset, -amount), (message.payee, message.asset, amount)]
    post(run, legs, forced_by=message.controller)


# --- who must sign ---


def by_administration(message: Define):
    return ((message.account, message.code, None),)


def by_issuance(message: Issue | AllowHolder | DisallowHolder):
    amount = message.amount_minor if isinstance(message, Issue) else None
    return ((message.issuance_account, message.asset, amount),)


def by_account(message: Redeem | PlaceHold):
    return ((message.account, message.asset, message.amount_minor),)


def by_payer(message: Transfer | BatchTransfer):
    amount = message.amount_minor if isinstance(message, Transfer) else sum(leg.amount_minor for leg in message.legs)
    return ((message.payer, message.asset, amount),)


def by_beneficiary(message: PostHold | VoidHold):
    if isinstance(message, VoidHold):
        return ((message.beneficiary, None, None),)
    return ((message.beneficiary, message.asset, message.amount_minor),)


def by_controller(message: Freeze | Release | ForcedVoidHold | ForcedTransfer):
    amount = message.amount_minor if isinstance(message, ForcedTransfer) else None
    return ((message.controller, message.asset, amount),)


# --- golden blocks ---


def story(book) -> None:
    """Gold is issued, listed, moved, held, frozen and seized; each message is also refused once."""
    names = book.names
    mint, mill, shop, watch, north = (names[name] for name in ("mint", "mill", "shop", "watch", "north"))

    def bond(account: bytes) -> Define:
        return Define(account, "BOND.north", "Bond", "EUR", 2, north, 1_000, False, False, 100, 500, None)

    book.block(
        book.done(bond(north)),
        book.refused("ledger", 14, bond(north)),
        book.refused("ledger", 50, bond(names["north-settling"])),
        book.refused("assets", 8, bond(mint)),
        book.done(AllowHolder(mint, mill, "GLD")),
        book.done(AllowHolder(mint, shop, "GLD")),
        book.refused("assets", 1, AllowHolder(watch, mill, "GLD")),
        book.refused("ledger", 29, AllowHolder(mint, mill, "OIL")),
    )
    book.block(
        book.done(Issue(mint, mill, "GLD", 1_000, b"first")),
        book.refused("ledger", 21, Issue(mint, shop, "GLD", 2_001, b"")),
        book.refused("ledger", 23, Issue(mint, names["watch-2"], "GLD", 1, b"")),
        book.done(Issue(mint, mill, "OIL", 50_000, b"")),
        book.refused("assets", 2, Issue(mint, mint, "OIL", 1, b"")),
        book.done(Issue(north, names["mill-board"], "EUR.north", 10_000, b"")),
    )
    book.block(
        book.done(Transfer(mill, shop, "GLD", 100, b"\x01")),
        book.refused("ledger", 24, Transfer(mill, shop, "GLD", 101, b"")),
        book.refused("assets", 2, Transfer(mill, mill, "GLD", 1, b"")),
        book.refused("ledger", 19, Transfer(shop, mill, "OIL", 1, b"")),
        book.done(BatchTransfer(mill, "OIL", (BatchLeg(shop, 40, b""), BatchLeg(watch, 2, b"x")))),
        book.refused("core", 7, BatchTransfer(mill, "OIL", (BatchLeg(shop, MAX_MINOR, b""), BatchLeg(shop, 1, b"")))),
        book.done(Transfer(names["mill-board"], shop, "EUR.north", 100, b""), by=["mill-maker"]),
        book.refused("ledger", 10, Transfer(names["mill-board"], shop, "EUR.north", 101, b""), by=["mill-maker"]),
    )
    book.block(
        book.done(Redeem(mill, "GLD", 60, b"")),
        book.refused("ledger", 25, Redeem(mill, "GLD", 91, b"")),
        book.refused("ledger", 19, Redeem(shop, "GLD", 101, b"")),
        book.done(PlaceHold(shop, mill, "OIL", 30, book.world.time_ms + 5_000, b"")),
        book.done(PlaceHold(mill, shop, "OIL", 1_000, book.world.time_ms + 60_000, b"rent")),
        book.done(PlaceHold(mill, watch, "OIL", 7, book.world.time_ms + 60_000, b"")),
        book.refused("ledger", 19, PlaceHold(shop, mill, "OIL", 11, book.world.time_ms + 9_000, b"")),
        book.refused("assets", 7, PlaceHold(shop, mill, "OIL", 1, book.world.time_ms + LONGEST_HOLD_MS + 9_999, b"")),
    )
    by_amount = {facts.amount: hold for hold, facts in book.world.model.holds.items()}
    book.block(
        book.done(PostHold(by_amount[1_000], shop, "OIL", 400, False)),
        book.refused("ledger", 34, PostHold(by_amount[1_000], shop, "OIL", 601, False)),
        book.refused("assets", 5, PostHold(by_amount[1_000], watch, "OIL", 1, False)),
        book.done(PostHold(by_amount[1_000], shop, "OIL", 500, True)),
        book.done(VoidHold(by_amount[30], mill)),
        book.refused("ledger", 32, VoidHold(by_amount[30], mill)),
        book.done(ForcedVoidHold(names["watch-2"], by_amount[7], "OIL", "COURT_ORDER")),
        book.refused("ledger", 32, ForcedVoidHold(names["watch-2"], by_amount[7], "OIL", "COURT_ORDER")),
        book.done(PlaceHold(shop, mill, "OIL", 8, book.world.time_ms + 5_000, b"expires")),
    )
    book.block(after_ms=10_000)
    book.block(
        book.done(Freeze(watch, shop, "GLD", "SANCTIONS")),
        book.refused("assets", 4, Freeze(watch, mill, "GLD", "BECAUSE")),
        book.refused("ledger", 22, Transfer(shop, mill, "GLD", 1, b"")),
        book.refused("ledger", 22, Transfer(mill, shop, "GLD", 1, b"")),
        book.done(ForcedTransfer(watch, shop, mill, "GLD", 99, "COURT_ORDER", b"case 7")),
        book.refused("ledger", 26, ForcedTransfer(names["watch-2"], shop, mill, "GLD", 1, "COURT_ORDER", b"")),
    )
    book.block(
        book.done(Release(watch, shop, "GLD", "ORDER_LIFTED")),
        book.refused("ledger", 49, Release(watch, shop, "GLD", "ORDER_LIFTED")),
        book.done(DisallowHolder(mint, shop, "GLD")),
        book.refused("ledger", 49, DisallowHolder(mint, shop, "GLD")),
        book.refused("ledger", 23, Transfer(shop, mill, "GLD", 1, b"")),
        book.refused("ledger", 19, Transfer(mill, shop, "OIL", 49_000, b""), Transfer(mill, shop, "OIL", 49_000, b"")),
    )


SIMULATION = Simulation(
    rules={
        Define: Rule(draw_define, by_administration, define),
        Issue: Rule(draw_issue, by_issuance, issue),
        Redeem: Rule(draw_redeem, by_account, redeem),
        Transfer: Rule(draw_transfer, by_payer, transfer),
        BatchTransfer: Rule(draw_batch, by_payer, batch),
        PlaceHold: Rule(draw_place, by_account, place),
        PostHold: Rule(draw_post, by_beneficiary, post_),
        VoidHold: Rule(draw_void, by_beneficiary, void),
        Freeze: Rule(draw_freeze, by_controller, freeze),
        Release: Rule(draw_release, by_controller, release),
        AllowHolder: Rule(draw_allow, by_issuance, allow),
        DisallowHolder: Rule(draw_disallow, by_issuance, disallow),
        ForcedTransfer: Rule(draw_forced, by_controller, forced),
        ForcedVoidHold: Rule(draw_forced_void, by_controller, forced_void),
    },
    genesis=GENESIS,
    opening=opening,
    crowd=draw_crowd,
    found=found,
    story=story,
)
