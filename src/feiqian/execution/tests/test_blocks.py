"""What a block does: order, atomicity, what uses an id up, limits, triggers, and what is written about it."""

import hashlib

import msgspec
import pytest

from feiqian.core.encoding import encode
from feiqian.core.errors import InvalidTransaction, NonCanonical, Undecodable
from feiqian.core.transactions import SignedTransaction, decode_signed
from feiqian.execution.admission import check_form, prepare, prepare_formed
from feiqian.execution.blocks import Unprepared, execute_block, open_bundle
from feiqian.execution.errors import (
    BlockLimitReached,
    NoSignature,
    SignatureInvalid,
    SignaturesOutOfOrder,
    WorkLimitReached,
    WrongChain,
    WrongVersion,
)
from feiqian.execution.tables import RESULTS, height_key
from feiqian.ledger.balances import get_balance
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.errors import (
    ExpiryTooFar,
    InsufficientAvailable,
    NotAuthorised,
    SignatureNotNeeded,
    SponsorNotConcerned,
    SponsorOverLimit,
    TransactionExpired,
    TransactionReplayed,
)
from feiqian.ledger.metering import USAGE
from feiqian.ledger.parameters import PARAMETERS
from feiqian.ledger.records import Parameters
from feiqian.ledger.validators import Misbehaviour
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer, Issue, PlaceHold, Transfer
from feiqian.modules.governance.state import MISBEHAVIOURS
from feiqian.state.replay import REPLAY_DIGESTS, replay_digest
from feiqian.state.tables import BlockState
from feiqian.state.tree import root_of
from feiqian.wallet.signing import build_transaction, sign_transaction

CHAIN = "feiqian-test-1"


def issue(ledger, amount: int, payee: str = "north") -> Issue:
    return Issue(ledger.names["mint/issuance"], ledger.names[payee], "GLD", amount, b"")


def pay(ledger, amount: int, payer: str = "north", payee: str = "south") -> Transfer:
    return Transfer(ledger.names[payer], ledger.names[payee], "GLD", amount, b"")


def posted(ledger, name: str) -> int:
    return get_balance(BlockState(ledger), ledger.names[name], "GLD").posted_minor


def numbers(ledger, outcome) -> list[tuple[str, int]]:
    return [(result.codespace, result.number) for result in ledger.results(outcome)]


def refused(error: type[InvalidTransaction]) -> tuple[str, int]:
    return (error.codespace, error.number)


def test_transactions_run_in_order_on_what_the_one_before_left(ledger) -> None:
    outcome = ledger.block(
        [
            ledger.prepare(ledger.sign("north", [pay(ledger, 30)], ["north"])),
            ledger.prepare(ledger.sign("mint", [issue(ledger, 100)], ["mint"])),
            ledger.prepare(ledger.sign("north", [pay(ledger, 30)], ["north"])),
        ]
    )
    assert numbers(ledger, outcome) == [refused(InsufficientAvailable), ("", 0), ("", 0)]
    assert (posted(ledger, "mint/issuance"), posted(ledger, "north"), posted(ledger, "south")) == (-100, 70, 30)


def test_messages_of_one_transaction_stand_or_fall_together(ledger) -> None:
    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    result = ledger.run("north", [pay(ledger, 60), pay(ledger, 60)], ["north"])
    assert (result.codespace, result.number) == refused(InsufficientAvailable)
    assert result.events == ()
    assert (posted(ledger, "north"), posted(ledger, "south")) == (100, 0)
    assert ledger.run("north", [pay(ledger, 60), pay(ledger, 40)], ["north"]).number == 0
    assert (posted(ledger, "north"), posted(ledger, "south")) == (0, 100)


def test_accounts_and_balances_that_messages_touch_are_read_first_in_key_order(ledger, monkeypatch) -> None:
    ledger.block([ledger.prepare(ledger.sign("mint", [issue(ledger, 50)], ["mint"]))])
    asked: list[bytes] = []
    monkeypatch.setattr(ledger, "get", lambda key: (asked.append(key), ledger.records.get(key))[1])
    batch = BatchTransfer(ledger.names["north"], "GLD", (BatchLeg(ledger.names["south"], 1, b""),))
    orders = [ledger.sign("north", [pay(ledger, 5), batch], ["north"])]
    orders.append(ledger.sign("north", [pay(ledger, 5, "north", "mint/issuance")], ["north"]))
    ledger.block([*[ledger.prepare(order) for order in orders], Unprepared(b"x", Undecodable("x"))])
    addresses = sorted(ledger.names[name] for name in ("north", "south", "mint/issuance"))
    expected = [b"ledger.accounts/" + address for address in addresses]
    expected += [b"ledger.balances/" + address + b"GLD" for address in addresses]
    start = asked.index(expected[0])
    assert asked[start : start + 6] == expected
    assert all(asked.count(key) == 1 for key in expected)


def test_a_broken_rule_uses_the_id_up_and_a_missing_authority_does_not(ledger) -> None:
    poor = ledger.prepare(ledger.sign("north", [pay(ledger, 1)], ["north"]))
    assert numbers(ledger, ledger.block([poor])) == [refused(InsufficientAvailable)]
    assert numbers(ledger, ledger.block([poor])) == [refused(TransactionReplayed)]
    stranger = ledger.prepare(ledger.sign("north", [pay(ledger, 1)], ["south-maker"]))
    outcome = ledger.block([stranger])
    assert numbers(ledger, outcome) == [refused(NotAuthorised)]
    assert outcome.replay_ids == ()
    assert stranger.tx_id not in dict(outcome.results), "a result under the true id would hide the true one's"


def test_an_observer_who_strips_or_adds_signatures_cannot_burn_the_transaction(ledger) -> None:
    ledger.run("mint", [issue(ledger, 1_000, "south")], ["mint"])
    message = pay(ledger, 500, "south", "north")
    transaction = build_transaction("feiqian-test-1", "south", [message], ledger.time_ms + 60_000)
    both = sign_transaction(transaction, [ledger.key("south-maker"), ledger.key("south-checker")])
    stripped = sign_transaction(transaction, [ledger.key("south-maker")])
    more = sign_transaction(transaction, [ledger.key("south-maker"), ledger.key("south-checker"), ledger.key("north")])
    prepared = [ledger.prepare(signed) for signed in (stripped, more, both)]
    assert len({each.tx_id for each in prepared}) == 1
    outcome = ledger.block(prepared)
    assert numbers(ledger, outcome) == [refused(NotAuthorised), refused(SignatureNotNeeded), ("", 0)]
    assert posted(ledger, "north") == 500


def test_the_same_transaction_twice_in_a_block_runs_once(ledger) -> None:
    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    prepared = ledger.prepare(ledger.sign("north", [pay(ledger, 10)], ["north"]))
    outcome = ledger.block([prepared, prepared])
    assert numbers(ledger, outcome) == [("", 0), refused(TransactionReplayed)]
    assert len({id_ for id_, _ in outcome.results}) == 2
    assert posted(ledger, "south") == 10


def test_authority_is_that_of_the_start_of_the_block(ledger) -> None:
    """A policy changed in this block binds from the next on, whatever the order inside it."""
    from feiqian.ledger.authority import single_key_policy
    from feiqian.modules.accounts.messages import ChangePolicy

    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    change = ChangePolicy(ledger.names["north"], single_key_policy(ledger.key("north-2").public))
    outcome = ledger.block(
        [
            ledger.prepare(ledger.sign("north", [change], ["north"])),
            ledger.prepare(ledger.sign("north", [pay(ledger, 1)], ["north-2"])),
            ledger.prepare(ledger.sign("north", [pay(ledger, 2)], ["north"])),
        ]
    )
    assert numbers(ledger, outcome) == [("", 0), refused(NotAuthorised), ("", 0)]
    assert ledger.run("north", [pay(ledger, 1)], ["north-2"]).number == 0


@pytest.mark.parametrize(
    ("expires_in_ms", "error"), [(999, TransactionExpired), (1_000, None), (601_000, None), (601_001, ExpiryTooFar)]
)
def test_expiry_is_within_the_window_of_block_time(ledger, expires_in_ms: int, error) -> None:
    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    signed = ledger.sign("north", [pay(ledger, 1)], ["north"], expires_at_ms=ledger.time_ms + expires_in_ms)
    outcome = ledger.block([ledger.prepare(signed)], after_ms=1_000)
    assert numbers(ledger, outcome) == [("", 0) if error is None else refused(error)]


def test_a_sponsor_is_a_member_that_the_transaction_acts_for(ledger) -> None:
    assert ledger.run("mint", [pay(ledger, 1)], ["north"]).number == SponsorNotConcerned.number


def test_what_needs_no_state_is_refused_before_anything_else(ledger) -> None:
    message = issue(ledger, 1)
    good = ledger.sign("mint", [message], ["mint"])
    envelope = decode_signed(good)
    signature = envelope.signatures[0]
    forged = msgspec.structs.replace(signature, signature=bytes([signature.signature[0] ^ 1]) + signature.signature[1:])
    cases = {
        WrongChain: ledger.sign("mint", [message], ["mint"], chain_id="feiqian-test-2"),
        NoSignature: encode(SignedTransaction(envelope.body, ())),
        SignaturesOutOfOrder: encode(SignedTransaction(envelope.body, (signature, signature))),
        SignatureInvalid: encode(SignedTransaction(envelope.body, (forged,))),
        Undecodable: encode(SignedTransaction(envelope.body + b"\x00", (signature,))),
        NonCanonical: encode(SignedTransaction(envelope.body.replace(b"\xa3GLD", b"\xd9\x03GLD"), (signature,))),
        WrongVersion: encode(SignedTransaction(envelope.body.replace(b"\x96\x01", b"\x96\x02", 1), (signature,))),
    }
    for error, signed in cases.items():
        with pytest.raises(error) as caught:
            prepare(ledger.registry, "feiqian-test-1", signed)
        assert caught.type is error
    unknown = SignedTransaction(envelope.body.replace(b"assets.Issue", b"assets.Steal"), (signature,))
    with pytest.raises(Undecodable, match=r"assets\.Steal"):
        prepare(ledger.registry, "feiqian-test-1", encode(unknown))


def test_form_first_and_the_rest_later_come_to_the_same(ledger) -> None:
    good = ledger.sign("mint", [issue(ledger, 1)], ["mint"])
    formed = check_form(ledger.registry, "feiqian-test-1", good)
    whole = prepare(ledger.registry, "feiqian-test-1", good)
    assert prepare_formed(ledger.registry, good, formed.tx_id) == formed == whole
    envelope = decode_signed(good)
    broken = msgspec.structs.replace(envelope.signatures[0], signature=bytes(64))
    forged = encode(SignedTransaction(envelope.body, (broken,)))
    check_form(ledger.registry, "feiqian-test-1", forged)
    for signed, tx_id in ((forged, formed.tx_id), (good, bytes(32))):
        with pytest.raises(SignatureInvalid):
            prepare_formed(ledger.registry, signed, tx_id)


def test_bytes_that_are_no_transaction_are_recorded_in_a_synced_block(ledger) -> None:
    outcome = ledger.block([Unprepared(b"junk", Undecodable("no transaction"))])
    assert numbers(ledger, outcome) == [refused(Undecodable)]
    assert not outcome.is_empty
    assert outcome.replay_ids == ()


def test_an_empty_block_writes_nothing(ledger) -> None:
    outcome = ledger.block([])
    assert outcome.is_empty
    assert outcome.changes == {}
    assert outcome.results == ()


def test_digests_of_results_and_replay_ids_stand_in_state(ledger) -> None:
    signed = ledger.sign("mint", [issue(ledger, 100)], ["mint"])
    prepared = ledger.prepare(signed)
    outcome = ledger.block([prepared])
    state = BlockState(ledger)
    root = RESULTS.get(state, height_key(1))
    digest = REPLAY_DIGESTS.get(state, height_key(1))
    assert root is not None
    assert root.digest == root_of(dict(outcome.results))
    assert digest is not None
    assert digest.digest == replay_digest([prepared.tx_id])


def test_digests_leave_state_after_the_proof_window(ledger) -> None:
    set_parameters(ledger, proof_window=600)
    ledger.run("mint", [issue(ledger, 1)], ["mint"])
    for _ in range(599):
        ledger.block([])
    ledger.run("mint", [issue(ledger, 1)], ["mint"])
    assert RESULTS.get(BlockState(ledger), height_key(1)) is not None
    ledger.run("mint", [issue(ledger, 1)], ["mint"])
    assert RESULTS.get(BlockState(ledger), height_key(1)) is None
    assert RESULTS.get(BlockState(ledger), height_key(602)) is not None


def set_parameters(ledger, **changes: int) -> None:
    parameters = msgspec.structs.replace(Parameters(), **changes)
    ledger.records[PARAMETERS.prefix + b"current"] = encode(parameters)


def test_work_is_counted_and_charged_to_the_sponsor(ledger) -> None:
    signed = ledger.sign("mint", [issue(ledger, 1)], ["mint"])
    prepared = ledger.prepare(signed)
    assert prepared.admission_work == 1_000 + len(signed)
    result = ledger.results(ledger.block([prepared]))[0]
    # One signature 1,000; each byte 1; two postings 100 each; two balances written 200 each.
    assert result.work == 1_000 + len(signed) + 2 * 100 + 2 * 200
    usage = USAGE.get(BlockState(ledger), b"mint")
    assert usage is not None
    assert (usage.block_bytes, usage.block_work, usage.day_work) == (len(signed), result.work, result.work)


def test_a_proposer_stops_at_the_work_limit_and_others_record_what_is_beyond(ledger) -> None:
    set_parameters(ledger, max_block_work=1_000_000)
    many = [ledger.prepare(ledger.sign("mint", [issue(ledger, 1)], ["mint"])) for _ in range(700)]
    proposal = ledger.block(many, is_proposal=True)
    assert 0 < proposal.taken < 700
    assert len(proposal.results) == proposal.taken
    assert proposal.work >= 1_000_000 > proposal.work - 5_000
    rest = ledger.block(many[proposal.taken :], is_proposal=False)
    assert set(numbers(ledger, rest)) == {("", 0), refused(BlockLimitReached)} or rest.taken < 700
    assert posted(ledger, "north") == proposal.taken + numbers(ledger, rest).count(("", 0))


def test_what_is_left_out_holds_on_to_nothing_of_the_block(ledger) -> None:
    # A traceback leads to the frames that ran the block, which lead back to it: a cycle of megabytes.
    set_parameters(ledger, sponsor_block_work=500_000)
    many = [ledger.prepare(ledger.sign("mint", [issue(ledger, 1)], ["mint"])) for _ in range(400)]
    left_out = ledger.block(many, is_proposal=True).left_out
    assert {type(refusal) for _, refusal in left_out} == {SponsorOverLimit}
    assert all(refusal.__traceback__ is None for _, refusal in left_out)


def test_one_transaction_beyond_a_whole_block_is_refused(ledger) -> None:
    # 1,000 legs: 2,000 postings and 1,001 records are 400,200 units, ten such messages more than a block's million.
    set_parameters(ledger, max_block_work=1_000_000)
    ledger.run("mint", [issue(ledger, 1_000_000)], ["mint"])
    legs = tuple(BatchLeg(ledger.names["south"], 1, b"") for _ in range(700))
    batches = [BatchTransfer(ledger.names["north"], "GLD", legs) for _ in range(4)]
    signed = ledger.sign("north", [*batches], ["north"])
    outcome = ledger.block([ledger.prepare(signed)])
    expected = [("", 0)] if ledger.results(outcome)[0].work <= 1_000_000 else [refused(WorkLimitReached)]
    assert numbers(ledger, outcome) == expected


def test_due_triggers_run_before_transactions_and_free_what_they_hold(ledger) -> None:
    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    hold = PlaceHold(ledger.names["north"], ledger.names["south"], "GLD", 100, ledger.time_ms + 5_000, b"")
    assert ledger.run("north", [hold], ["north"]).number == 0
    assert ledger.run("north", [pay(ledger, 100)], ["north"]).number == InsufficientAvailable.number
    outcome = ledger.block([ledger.prepare(ledger.sign("north", [pay(ledger, 100)], ["north"]))], after_ms=5_000)
    assert numbers(ledger, outcome) == [("", 0), ("", 0)], "the hold's expiry, then the payment"
    assert posted(ledger, "south") == 100


def test_a_block_with_a_due_trigger_only_is_not_empty(ledger) -> None:
    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    hold = PlaceHold(ledger.names["north"], ledger.names["south"], "GLD", 100, ledger.time_ms + 5_000, b"")
    ledger.run("north", [hold], ["north"])
    assert ledger.block([], after_ms=1_000).is_empty
    outcome = ledger.block([], after_ms=5_000)
    assert not outcome.is_empty
    assert get_balance(BlockState(ledger), ledger.names["north"], "GLD").held_minor == 0


# --- what consensus proved ---


def proved(place: int) -> Misbehaviour:
    return Misbehaviour("duplicate-vote", bytes([place]) * 20, 7, 1_799_999_999_000, 10)


def test_misbehaviour_is_recorded_before_triggers_and_transactions(ledger) -> None:
    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    hold = PlaceHold(ledger.names["north"], ledger.names["south"], "GLD", 40, ledger.time_ms + 1_500, b"")
    ledger.run("north", [hold], ["north"])
    prepared = ledger.prepare(ledger.sign("north", [pay(ledger, 30)], ["north"]))
    outcome = ledger.block([prepared], misbehaviour=(proved(1), proved(2)))
    assert outcome.unasked == 3
    ids = [id_ for id_, _ in outcome.results]
    assert ids[3] == prepared.tx_id
    # BIP 340's construction by hand: SHA-256 of the tag's digest twice, then the height and the place in the block.
    tag = hashlib.sha256(b"feiqian/misbehaviour/v1").digest()
    assert ids[:2] == [
        hashlib.sha256(tag + tag + (3).to_bytes(8, "big") + place.to_bytes(4, "big")).digest() for place in (0, 1)
    ]
    assert numbers(ledger, outcome) == [("", 0)] * 4
    tags = [[msgspec.msgpack.decode(event)[0] for event in result.events] for result in ledger.results(outcome)]
    assert tags[:3] == [["governance.ValidatorMisbehaved"]] * 2 + [["ledger.HoldExpired"]]
    assert len(list(MISBEHAVIOURS.scan(BlockState(ledger)))) == 2


def test_a_block_with_misbehaviour_only_is_not_empty(ledger) -> None:
    outcome = ledger.block([], misbehaviour=(proved(1),))
    assert not outcome.is_empty
    assert outcome.unasked == len(outcome.results) == 1
    root = RESULTS.get(BlockState(ledger), height_key(1))
    assert root is not None
    assert root.digest == root_of(dict(outcome.results))
    again = ledger.block([], misbehaviour=(proved(1),))
    assert not again.is_empty
    assert ledger.results(again)[0].events == ()


def test_a_proposal_with_misbehaviour_is_as_the_block_will_be(ledger) -> None:
    ledger.run("mint", [issue(ledger, 100)], ["mint"])
    prepared = ledger.prepare(ledger.sign("north", [pay(ledger, 30)], ["north"]))
    info = BlockInfo(CHAIN, 2, ledger.time_ms + 1_000)
    offered = execute_block(
        ledger.registry, ledger, ledger, info, [prepared], misbehaviour=(proved(1),), is_proposal=True
    )
    decided = ledger.block([prepared], misbehaviour=(proved(1),))
    assert (offered.results, offered.changes) == (decided.results, decided.changes)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x91\xa1a", encode((b"a", 1)), b"\xdc\x00\x01\xc4\x01a", b"\x91\xc4\x01a\x00"]
)
def test_bytes_that_are_no_bundle_stand_for_one_transaction_that_is_refused(ledger, data: bytes) -> None:
    """MessagePack by hand: nothing, a reserved byte, text, a number, a longer form than needed, a byte too many."""
    assert open_bundle(data) == (b"",)
    with pytest.raises(InvalidTransaction):
        prepare(ledger.registry, CHAIN, b"")
    assert open_bundle(encode((b"a", b"bc"))) == (b"a", b"bc")
    assert open_bundle(b"\x90") == ()


def test_a_transaction_in_the_place_of_a_bundle_is_not_run(ledger) -> None:
    assert open_bundle(ledger.sign("mint", [issue(ledger, 1)], ["mint"])) == (b"",)
