"""Define, Issue, Redeem, Transfer, BatchTransfer, ForcedTransfer: what each does, and each refusal by number."""

import msgspec
import pytest

from feiqian.core.encoding import Codec, encode
from feiqian.core.errors import Undecodable
from feiqian.ledger.accounts import set_administration
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.authority import authorise
from feiqian.ledger.context import Claim
from feiqian.ledger.errors import MemberSuspended
from feiqian.ledger.events import AssetDefined, Posted
from feiqian.ledger.members import require_member, set_member
from feiqian.ledger.records import Asset, Balance, Leg
from feiqian.modules.assets.events import BatchTransferred, Issued, Redeemed, TransferForced, Transferred
from feiqian.modules.assets.messages import (
    BatchLeg,
    BatchTransfer,
    Define,
    ForcedTransfer,
    Freeze,
    Issue,
    PlaceHold,
    PostHold,
    Redeem,
    Transfer,
)

EUR = "EUR.harbour-bank"
OIL = "OIL.harbour-bank"


def pair(world, payer, payee, amount_minor, asset=EUR):
    return Posted((Leg(world[payer], asset, -amount_minor), Leg(world[payee], asset, amount_minor)))


def test_define_brings_an_asset_with_its_cap_as_issuance_limit(bare_world):
    message = bare_world.definition(transfer_limit_minor=50_000, daily_limit_minor=80_000)
    asset = Asset(
        scale=2,
        issuer="harbour-bank",
        issuance_account=bare_world["vault"],
        supply_cap_minor=1_000_000,
        is_freezable=True,
        is_allow_listed=False,
        transfer_limit_minor=50_000,
        daily_limit_minor=80_000,
        controller=bare_world["court"],
        name="Harbour euro",
        currency="EUR",
    )
    assert bare_world.run(message) == [AssetDefined(EUR, asset)]
    assert ASSETS.get(bare_world.state, EUR.encode()) == asset
    assert bare_world.balance("vault") == Balance(0, 0, 1_000_000, False, False)
    assert message.claims() == (Claim(bare_world["administration"], EUR),)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"code": "EUR"}, ("assets", 8)),
        ({"code": "EURharbour-bank"}, ("assets", 8)),
        ({"code": "EUR.ada-works"}, ("assets", 8)),
        ({"account": bytes(32)}, ("ledger", 5)),
        ({"daily_limit_minor": 1_000_001}, ("assets", 10)),
        ({"transfer_limit_minor": 1_000_001}, ("assets", 10)),
        ({"transfer_limit_minor": 501, "daily_limit_minor": 500}, ("assets", 10)),
        ({"controller": None}, ("ledger", 15)),
        ({"controller": bytes(32)}, ("ledger", 5)),
        ({"issuance_account": bytes(32)}, ("ledger", 5)),
    ],
)
def test_define_refuses(bare_world, changes, rule):
    assert bare_world.refuse(bare_world.definition(**changes)) == rule


def test_only_the_administration_account_defines_what_its_member_issues(bare_world):
    """A bank's customer holds an account of the bank; it makes no money in the bank's name, nor does the vault."""
    for name in ("harbour", "vault"):
        assert bare_world.refuse(bare_world.definition(account=bare_world[name])) == ("ledger", 50)
    foreign = bare_world.definition(account=bare_world["ada"])
    assert bare_world.refuse(foreign) == ("assets", 8)
    assert bare_world.refuse(msgspec.structs.replace(foreign, code="EUR.ada-works")) == ("assets", 9)
    bare_world.do(set_administration, "harbour-bank", bare_world["harbour"])
    assert bare_world.refuse(bare_world.definition()) == ("ledger", 50)
    bare_world.run(bare_world.definition(account=bare_world["harbour"]))


def test_define_refuses_another_members_issuance_account_and_a_taken_code(world):
    foreign = world.definition(code="X.harbour-bank", issuance_account=world["ada"])
    assert world.refuse(foreign) == ("ledger", 15)
    assert world.refuse(world.definition()) == ("ledger", 14)


@pytest.mark.parametrize("changes", [{"scale": 10}, {"supply_cap_minor": 0}, {"currency": "eur"}, {"code": ".x"}])
def test_a_misshapen_definition_does_not_decode(bare_world, changes):
    with pytest.raises(Undecodable):
        Codec(Define, "definition").decode(encode(bare_world.definition(**changes)))


def test_issue_makes_units_that_the_issuance_account_owes(world):
    message = Issue(world["vault"], world["bo"], EUR, 70_00, b"contract 7")
    assert world.run(message) == [
        pair(world, "vault", "bo", 70_00),
        Issued(world["vault"], world["bo"], EUR, 70_00, b"contract 7"),
    ]
    assert world.posted("vault", "ada", "bo") == [-570_00, 500_00, 70_00]
    assert message.claims() == (Claim(world["vault"], EUR, 70_00),)


def test_issue_refuses(world):
    vault, ada, bo = world["vault"], world["ada"], world["bo"]
    assert world.refuse(Issue(ada, bo, EUR, 1, b"")) == ("assets", 1)
    assert world.refuse(Issue(world["harbour"], bo, EUR, 1, b"")) == ("assets", 1)
    assert world.refuse(Issue(vault, bo, "GBP", 1, b"")) == ("ledger", 13)
    assert world.refuse(Issue(vault, vault, EUR, 1, b"")) == ("assets", 2)
    assert world.refuse(Issue(vault, bytes(32), EUR, 1, b"")) == ("ledger", 5)
    assert world.refuse(Issue(vault, bo, OIL, 1, b"")) == ("ledger", 23)
    assert world.refuse(Issue(vault, bo, EUR, 9_500_01, b"")) == ("ledger", 21)
    world.run(Issue(vault, bo, EUR, 9_500_00, b""))
    assert world.posted("vault", "bo") == [-1_000_000, 9_500_00]


def test_redeem_ends_units(world):
    message = Redeem(world["ada"], EUR, 120_00, b"payout")
    assert world.run(message) == [
        pair(world, "ada", "vault", 120_00),
        Redeemed(world["ada"], world["vault"], EUR, 120_00, b"payout"),
    ]
    assert world.posted("vault", "ada") == [-380_00, 380_00]
    assert message.claims() == (Claim(world["ada"], EUR, 120_00),)
    assert message.touches() == ((world["ada"], EUR),)


def test_redeem_refuses(world):
    assert world.refuse(Redeem(world["ada"], "GBP", 1, b"")) == ("ledger", 13)
    assert world.refuse(Redeem(world["vault"], EUR, 1, b"")) == ("assets", 2)
    assert world.refuse(Redeem(world["ada"], EUR, 500_01, b"")) == ("ledger", 19)


def test_transfer_moves_units(world):
    message = Transfer(world["ada"], world["bo"], EUR, 125_50, b"invoice 1")
    event = Transferred(world["ada"], world["bo"], EUR, 125_50, b"invoice 1")
    assert world.run(message) == [pair(world, "ada", "bo", 125_50), event]
    assert world.posted("vault", "ada", "bo") == [-500_00, 374_50, 125_50]
    assert message.claims() == (Claim(world["ada"], EUR, 125_50),)
    assert message.touches() == ((world["ada"], EUR), (world["bo"], EUR))
    assert event.accounts() == (world["ada"], world["bo"])


def test_transfer_refuses(world):
    vault, ada, bo = world["vault"], world["ada"], world["bo"]
    assert world.refuse(Transfer(ada, ada, EUR, 1, b"")) == ("assets", 2)
    assert world.refuse(Transfer(ada, bo, "GBP", 1, b"")) == ("ledger", 13)
    assert world.refuse(Transfer(vault, bo, EUR, 1, b"")) == ("assets", 3)
    assert world.refuse(Transfer(ada, vault, EUR, 1, b"")) == ("assets", 3)
    assert world.refuse(Transfer(ada, bytes(32), EUR, 1, b"")) == ("ledger", 5)
    assert world.refuse(Transfer(ada, bo, EUR, 500_01, b"")) == ("ledger", 19)
    assert world.refuse(Transfer(ada, bo, OIL, 1, b"")) == ("ledger", 23)
    world.run(Freeze(world["court"], bo, EUR, "SANCTIONS"))
    assert world.refuse(Transfer(ada, bo, EUR, 1, b"")) == ("ledger", 22)


@pytest.mark.parametrize("amount_minor", [0, -1, 2**62 + 1, 2**63])
def test_an_amount_out_of_range_does_not_decode(world, amount_minor):
    with pytest.raises(Undecodable):
        Codec(Transfer, "transfer").decode(encode(Transfer(world["ada"], world["bo"], EUR, amount_minor, b"")))


def test_a_reference_has_64_bytes_at_most(world):
    codec = Codec(Transfer, "transfer")
    longest = Transfer(world["ada"], world["bo"], EUR, 1, bytes(64))
    assert codec.decode(encode(longest)) == longest
    with pytest.raises(Undecodable):
        codec.decode(encode(Transfer(world["ada"], world["bo"], EUR, 1, bytes(65))))


def test_batch_transfer_moves_all_legs_in_one_entry(world):
    legs = (
        BatchLeg(world["bo"], 100_00, b"salary"),
        BatchLeg(world["cy"], 20_00, b""),
        BatchLeg(world["bo"], 5_00, b"bonus"),
    )
    message = BatchTransfer(world["ada"], EUR, legs)
    posted = Posted(
        (
            Leg(world["ada"], EUR, -125_00),
            Leg(world["bo"], EUR, 100_00),
            Leg(world["cy"], EUR, 20_00),
            Leg(world["bo"], EUR, 5_00),
        )
    )
    event = BatchTransferred(world["ada"], EUR, 125_00, legs)
    assert world.run(message) == [posted, event]
    assert world.posted("vault", "ada", "bo", "cy") == [-500_00, 375_00, 105_00, 20_00]
    assert message.claims() == (Claim(world["ada"], EUR, 125_00),)
    assert event.accounts() == (world["ada"], world["bo"], world["cy"])


def test_a_payee_reads_its_own_part_of_a_batch(world):
    bo, cy, again = BatchLeg(world["bo"], 7, b"a"), BatchLeg(world["cy"], 5, b"b"), BatchLeg(world["bo"], 2, b"c")
    posted, event = world.run(BatchTransfer(world["ada"], EUR, (bo, cy, again)))
    debit = Leg(world["ada"], EUR, -14)
    credits_ = (Leg(world["bo"], EUR, 7), Leg(world["cy"], EUR, 5), Leg(world["bo"], EUR, 2))
    assert posted == Posted((debit, *credits_))
    for name, legs, shown, total_minor in (
        ("bo", (credits_[0], credits_[2]), (bo, again), 9),
        ("cy", (credits_[1],), (cy,), 5),
        ("ada", (debit,), (bo, cy, again), 14),
        ("court", (), (), 0),
    ):
        own = world[name].__eq__
        assert posted.for_reader(own) == Posted(legs)
        if legs:
            assert event.for_reader(own) == BatchTransferred(world["ada"], EUR, total_minor, shown)


def test_a_suspended_member_receives_and_keeps_its_promises_but_sends_nothing(world):
    hold = world.run(PlaceHold(world["ada"], world["cy"], EUR, 30_00, world.time_ms + 60_000, b""))[-1].hold
    member = require_member(world.state, "ada-works")
    world.do(set_member, "ada-works", msgspec.structs.replace(member, is_suspended=True))
    world.run(Issue(world["vault"], world["ada"], EUR, 10_00, b""))
    world.run(PostHold(hold, world["cy"], EUR, 30_00, True))
    world.run(Transfer(world["cy"], world["ada"], EUR, 5_00, b""))
    assert world.posted("ada", "cy") == [485_00, 25_00]
    for message in (
        Transfer(world["ada"], world["bo"], EUR, 1, b""),
        Redeem(world["ada"], EUR, 1, b""),
        PlaceHold(world["ada"], world["bo"], EUR, 1, world.time_ms + 60_000, b""),
    ):
        with pytest.raises(MemberSuspended) as refusal:
            authorise(world.state, [message], "ada-works", frozenset({world.policy(world["ada"]).keys[0].key}))
        assert refusal.value.number == 3


def test_batch_transfer_refuses_as_a_whole(world):
    vault, ada, bo, cy = world["vault"], world["ada"], world["bo"], world["cy"]
    good = BatchLeg(bo, 1, b"")
    assert world.refuse(BatchTransfer(ada, EUR, (good, BatchLeg(ada, 1, b"")))) == ("assets", 2)
    assert world.refuse(BatchTransfer(ada, "GBP", (good,))) == ("ledger", 13)
    assert world.refuse(BatchTransfer(vault, EUR, (good,))) == ("assets", 3)
    assert world.refuse(BatchTransfer(ada, EUR, (good, BatchLeg(vault, 1, b"")))) == ("assets", 3)
    assert world.refuse(BatchTransfer(ada, EUR, (good, BatchLeg(bytes(32), 1, b"")))) == ("ledger", 5)
    assert world.refuse(BatchTransfer(ada, EUR, (good, BatchLeg(cy, 500_00, b"")))) == ("ledger", 19)
    overflowing = BatchTransfer(ada, EUR, (BatchLeg(bo, 2**62, b""), BatchLeg(cy, 2**62, b"")))
    assert world.refuse(overflowing) == ("core", 7)
    assert overflowing.claims() == (Claim(ada, EUR, 2**63),)


def test_a_batch_holds_1_to_1000_legs(world):
    codec = Codec(BatchTransfer, "batch transfer")
    leg = BatchLeg(world["bo"], 1, b"")
    assert len(codec.decode(encode(BatchTransfer(world["ada"], EUR, (leg,) * 1000))).legs) == 1000
    for count in (0, 1001):
        with pytest.raises(Undecodable):
            codec.decode(encode(BatchTransfer(world["ada"], EUR, (leg,) * count)))


def test_limits_bind_each_leg_and_the_day(bare_world):
    world = bare_world
    world.run(world.definition(transfer_limit_minor=100, daily_limit_minor=250))
    world.run(Issue(world["vault"], world["ada"], EUR, 1_000, b""))
    assert world.refuse(Transfer(world["ada"], world["bo"], EUR, 101, b"")) == ("ledger", 24)
    assert world.refuse(BatchTransfer(world["ada"], EUR, (BatchLeg(world["bo"], 101, b""),))) == ("ledger", 24)
    world.run(BatchTransfer(world["ada"], EUR, (BatchLeg(world["bo"], 100, b""), BatchLeg(world["cy"], 100, b""))))
    assert world.refuse(Transfer(world["ada"], world["bo"], EUR, 51, b"")) == ("ledger", 25)
    world.run(Transfer(world["ada"], world["bo"], EUR, 50, b""))
    world.time_ms += 12 * 60 * 60 * 1000
    world.run(Transfer(world["ada"], world["bo"], EUR, 100, b""))
    assert world.posted("ada", "bo", "cy") == [650, 250, 100]


def forced(world, payer="ada", payee="bo", amount_minor=200_00, by="court", reason="COURT_ORDER", asset=EUR):
    return ForcedTransfer(world[by], world[payer], world[payee], asset, amount_minor, reason, b"case 12")


def test_forced_transfer_moves_frozen_units(world):
    world.run(Freeze(world["court"], world["ada"], EUR, "COURT_ORDER"))
    event = TransferForced(world["court"], world["ada"], world["bo"], EUR, 200_00, "COURT_ORDER", b"case 12")
    assert world.run(forced(world)) == [pair(world, "ada", "bo", 200_00), event]
    assert world.posted("ada", "bo") == [300_00, 200_00]
    assert forced(world).claims() == (Claim(world["court"], EUR, 200_00),)
    assert event.accounts() == (world["court"], world["ada"], world["bo"])


def test_forced_transfer_to_the_issuance_account_ends_units(world):
    world.run(forced(world, payee="vault", reason="ERROR_CORRECTION"))
    assert world.posted("vault", "ada") == [-300_00, 300_00]


def test_forced_transfer_refuses(bare_world, world):
    assert world.refuse(forced(world, by="vault")) == ("ledger", 26)
    assert world.refuse(forced(world, by="ada")) == ("ledger", 26)
    assert world.refuse(forced(world, reason="BECAUSE")) == ("assets", 4)
    assert world.refuse(forced(world, payee="ada")) == ("assets", 2)
    assert world.refuse(forced(world, payer="vault")) == ("assets", 3)
    assert world.refuse(forced(world, amount_minor=500_01)) == ("ledger", 19)
    assert world.refuse(forced(world, asset=OIL, amount_minor=1)) == ("ledger", 23)
    bare_world.run(bare_world.definition(is_freezable=False, controller=None))
    assert bare_world.refuse(forced(bare_world)) == ("ledger", 26)
