"""PlaceHold, PostHold, VoidHold, ForcedVoidHold, Freeze, Release, AllowHolder, DisallowHolder."""

from feiqian.ledger import holds
from feiqian.ledger.context import Claim
from feiqian.ledger.events import (
    AssetFreezeSet,
    HoldExpired,
    HoldPlaced,
    HoldPosted,
    HoldVoided,
    ListingSet,
    Posted,
)
from feiqian.ledger.holds import HOLDS, ExpireHold
from feiqian.ledger.records import Balance, Leg
from feiqian.modules.assets.events import Frozen, HoldGivenUp, HoldMade, HoldTaken, HoldVoidForced, Released
from feiqian.modules.assets.messages import (
    AllowHolder,
    DisallowHolder,
    ForcedTransfer,
    ForcedVoidHold,
    Freeze,
    Issue,
    PlaceHold,
    PostHold,
    Release,
    Transfer,
    VoidHold,
)

EUR = "EUR.harbour-bank"
OIL = "OIL.harbour-bank"
HOUR_MS = 3_600_000
YEAR_MS = 366 * 86_400_000


def hold_message(world, **changes):
    values = {
        "account": world["ada"],
        "beneficiary": world["bo"],
        "asset": EUR,
        "amount_minor": 300_00,
        "expires_at_ms": world.time_ms + HOUR_MS,
        "reference": b"order 5",
    } | changes
    return PlaceHold(**values)


def place(world, **changes) -> bytes:
    return world.run(hold_message(world, **changes))[-1].hold


def test_place_hold_reserves_for_the_beneficiary(world):
    message = hold_message(world)
    placed, made = world.run(message)
    until_ms = world.time_ms + HOUR_MS
    assert placed == HoldPlaced(made.hold, world["ada"], world["bo"], EUR, 300_00, "assets", b"order 5", until_ms)
    assert made == HoldMade(made.hold, world["ada"], world["bo"], EUR, 300_00, world.time_ms + HOUR_MS, b"order 5")
    assert world.balance("ada") == Balance(500_00, 300_00, 0, False, False)
    assert world.balance("bo") == Balance(0, 0, 0, False, False)
    assert message.claims() == (Claim(world["ada"], EUR, 300_00),)
    assert world.refuse(Transfer(world["ada"], world["bo"], EUR, 200_01, b"")) == ("ledger", 19)


def test_place_hold_refuses(world):
    assert world.refuse(hold_message(world, beneficiary=world["ada"])) == ("assets", 2)
    assert world.refuse(hold_message(world, beneficiary=world["vault"])) == ("assets", 3)
    assert world.refuse(hold_message(world, account=world["vault"])) == ("assets", 3)
    assert world.refuse(hold_message(world, asset="GBP")) == ("ledger", 13)
    assert world.refuse(hold_message(world, beneficiary=bytes(32))) == ("ledger", 5)
    assert world.refuse(hold_message(world, amount_minor=500_01)) == ("ledger", 19)
    assert world.refuse(hold_message(world, expires_at_ms=world.time_ms)) == ("ledger", 36)
    assert world.refuse(hold_message(world, expires_at_ms=world.time_ms + YEAR_MS + 1)) == ("assets", 7)
    assert len(place(world, expires_at_ms=world.time_ms + YEAR_MS, reference=bytes(64))) == 32


def test_one_account_cannot_flood_the_ledger_with_holds(world):
    ctx = world.context()
    for _ in range(1_000):
        holds.place(ctx, world["ada"], EUR, 1, "assets", b"", world.time_ms + HOUR_MS, beneficiary=world["bo"])
    ctx.state.keep()
    assert world.refuse(hold_message(world, amount_minor=1)) == ("ledger", 52)
    assert world.balance("ada").held_minor == 1_000


def test_post_hold_in_part_then_finally(world):
    hold = place(world)
    first = PostHold(hold, world["bo"], EUR, 100_00, False)
    assert world.run(first) == [
        Posted((Leg(world["ada"], EUR, -100_00), Leg(world["bo"], EUR, 100_00))),
        HoldPosted(hold, world["ada"], world["bo"], EUR, 100_00, 0, 200_00),
        HoldTaken(hold, world["ada"], world["bo"], EUR, 100_00, False),
    ]
    assert world.balance("ada") == Balance(400_00, 200_00, 0, False, False)
    assert first.claims() == (Claim(world["bo"], EUR, 100_00),)
    assert world.run(PostHold(hold, world["bo"], EUR, 50_00, True))[1:] == [
        HoldPosted(hold, world["ada"], world["bo"], EUR, 50_00, 150_00, 0),
        HoldTaken(hold, world["ada"], world["bo"], EUR, 50_00, True),
    ]
    assert world.balance("ada") == Balance(350_00, 0, 0, False, False)
    assert world.posted("bo") == [150_00]
    assert world.refuse(PostHold(hold, world["bo"], EUR, 1, True)) == ("ledger", 32)


def test_post_hold_refuses(world):
    hold = place(world)
    assert world.refuse(PostHold(bytes(32), world["bo"], EUR, 1, True)) == ("ledger", 32)
    assert world.refuse(PostHold(hold, world["ada"], EUR, 1, True)) == ("assets", 5)
    assert world.refuse(PostHold(hold, world["bo"], OIL, 1, True)) == ("assets", 6)
    assert world.refuse(PostHold(hold, world["bo"], EUR, 300_01, True)) == ("ledger", 34)
    world.run(Freeze(world["court"], world["ada"], EUR, "FRAUD"))
    assert world.refuse(PostHold(hold, world["bo"], EUR, 1, True)) == ("ledger", 22)
    world.time_ms += HOUR_MS
    assert world.refuse(PostHold(hold, world["bo"], EUR, 1, True)) == ("ledger", 33)


def test_a_hold_of_another_module_is_out_of_reach(world):
    arguments = (world["ada"], EUR, 10, "orders", b"order 5", world.time_ms + 1)
    hold = world.do(holds.place, *arguments)[0].hold
    assert world.refuse(PostHold(hold, world["bo"], EUR, 10, True)) == ("ledger", 35)
    assert world.refuse(VoidHold(hold, world["bo"])) == ("ledger", 35)
    assert world.refuse(ForcedVoidHold(world["court"], hold, EUR, "FRAUD")) == ("ledger", 35)


def test_void_hold_gives_it_back(world):
    hold = place(world)
    world.run(PostHold(hold, world["bo"], EUR, 100_00, False))
    message = VoidHold(hold, world["bo"])
    assert world.run(message) == [
        HoldVoided(hold, world["ada"], world["bo"], EUR, 200_00),
        HoldGivenUp(hold, world["ada"], world["bo"], EUR, 200_00),
    ]
    assert world.balance("ada") == Balance(400_00, 0, 0, False, False)
    assert HOLDS.get(world.state, hold) is None
    assert message.claims() == (Claim(world["bo"]),)


def test_void_hold_refuses_its_payer(world):
    hold = place(world)
    assert world.refuse(VoidHold(hold, world["ada"])) == ("assets", 5)
    assert world.refuse(VoidHold(bytes(32), world["bo"])) == ("ledger", 32)


def test_an_expired_hold_is_free_again(world):
    hold = place(world)
    world.time_ms += HOUR_MS
    expired = HoldExpired(hold, world["ada"], world["bo"], EUR, 300_00, "assets", b"order 5")
    assert expired.accounts() == (world["ada"], world["bo"])
    assert world.expire(ExpireHold(hold)) == [expired]
    assert world.balance("ada") == Balance(500_00, 0, 0, False, False)


def test_forced_void_opens_the_way_to_a_forced_transfer(world):
    hold = place(world, amount_minor=500_00)
    seize = ForcedTransfer(world["court"], world["ada"], world["court"], EUR, 500_00, "COURT_ORDER", b"")
    assert world.refuse(seize) == ("ledger", 19)
    message = ForcedVoidHold(world["court"], hold, EUR, "COURT_ORDER")
    assert world.run(message) == [
        HoldVoided(hold, world["ada"], world["bo"], EUR, 500_00),
        HoldVoidForced(world["court"], hold, world["ada"], world["bo"], EUR, 500_00, "COURT_ORDER"),
    ]
    assert message.claims() == (Claim(world["court"], EUR),)
    world.run(seize)
    assert world.posted("ada", "court") == [0, 500_00]


def test_forced_void_refuses(world):
    hold = place(world)
    assert world.refuse(ForcedVoidHold(world["bo"], hold, EUR, "FRAUD")) == ("ledger", 26)
    assert world.refuse(ForcedVoidHold(world["court"], hold, OIL, "FRAUD")) == ("assets", 6)
    assert world.refuse(ForcedVoidHold(world["court"], hold, EUR, "WHIM")) == ("assets", 4)
    assert world.refuse(ForcedVoidHold(world["court"], bytes(32), EUR, "FRAUD")) == ("ledger", 32)


def test_freeze_and_release(world):
    freeze = Freeze(world["court"], world["ada"], EUR, "COURT_ORDER")
    assert world.run(freeze) == [
        AssetFreezeSet(world["ada"], EUR, True),
        Frozen(world["court"], world["ada"], EUR, "COURT_ORDER"),
    ]
    assert world.balance("ada") == Balance(500_00, 0, 0, True, False)
    assert world.refuse(Transfer(world["ada"], world["bo"], EUR, 1, b"")) == ("ledger", 22)
    assert world.refuse(hold_message(world)) == ("ledger", 22)
    release = Release(world["court"], world["ada"], EUR, "ORDER_LIFTED")
    assert world.run(release) == [
        AssetFreezeSet(world["ada"], EUR, False),
        Released(world["court"], world["ada"], EUR, "ORDER_LIFTED"),
    ]
    assert world.balance("ada") == Balance(500_00, 0, 0, False, False)
    assert freeze.claims() == release.claims() == (Claim(world["court"], EUR),)


def test_freeze_refuses(world):
    court, vault, ada = world["court"], world["vault"], world["ada"]
    assert world.refuse(Freeze(court, ada, "GBP", "FRAUD")) == ("ledger", 13)
    assert world.refuse(Freeze(vault, ada, EUR, "FRAUD")) == ("ledger", 26)
    assert world.refuse(Freeze(court, ada, EUR, "WHIM")) == ("assets", 4)
    assert world.refuse(Freeze(court, ada, OIL, "FRAUD")) == ("ledger", 28)
    assert world.refuse(Freeze(court, bytes(32), EUR, "FRAUD")) == ("ledger", 5)
    world.run(Freeze(court, ada, EUR, "FRAUD"))
    assert world.refuse(Freeze(court, ada, EUR, "FRAUD")) == ("ledger", 49)


def test_release_refuses(world):
    court, ada = world["court"], world["ada"]
    assert world.refuse(Release(court, ada, EUR, "ORDER_LIFTED")) == ("ledger", 49)
    world.run(Freeze(court, ada, EUR, "FRAUD"))
    assert world.refuse(Release(ada, ada, EUR, "ORDER_LIFTED")) == ("ledger", 26)
    assert world.refuse(Release(court, ada, EUR, "WHIM")) == ("assets", 4)


def test_allow_and_disallow_a_holder(world):
    allow = AllowHolder(world["vault"], world["bo"], OIL)
    assert world.run(allow) == [ListingSet(world["bo"], OIL, True)]
    world.run(Transfer(world["ada"], world["bo"], OIL, 7, b""))
    disallow = DisallowHolder(world["vault"], world["bo"], OIL)
    assert world.run(disallow) == [ListingSet(world["bo"], OIL, False)]
    assert world.balance("bo", OIL) == Balance(7, 0, 0, False, False)
    assert world.refuse(Issue(world["vault"], world["bo"], OIL, 1, b"")) == ("ledger", 23)
    assert world.refuse(Transfer(world["bo"], world["ada"], OIL, 7, b"")) == ("ledger", 23)
    world.run(ForcedTransfer(world["court"], world["bo"], world["ada"], OIL, 7, "HOLDER_REQUEST", b""))
    assert world.posted("ada", "bo", asset=OIL) == [50, 0]
    assert allow.claims() == disallow.claims() == (Claim(world["vault"], OIL),)


def test_allow_and_disallow_refuse(world):
    vault, ada, bo = world["vault"], world["ada"], world["bo"]
    for message in (AllowHolder, DisallowHolder):
        assert world.refuse(message(bo, bo, OIL)) == ("assets", 1)
        assert world.refuse(message(world["harbour"], bo, OIL)) == ("assets", 1)
        assert world.refuse(message(vault, bo, EUR)) == ("ledger", 29)
        assert world.refuse(message(vault, bo, "GBP")) == ("ledger", 13)
        assert world.refuse(message(vault, bytes(32), OIL)) == ("ledger", 5)
    assert world.refuse(AllowHolder(vault, ada, OIL)) == ("ledger", 49)
    assert world.refuse(DisallowHolder(vault, bo, OIL)) == ("ledger", 49)
    assert world.refuse(DisallowHolder(vault, vault, OIL)) == ("assets", 3)
