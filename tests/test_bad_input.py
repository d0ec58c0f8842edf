"""What strangers may send, one line each: what it is refused with, that it changes nothing, and that the next one runs.

Each case goes into a block between two good transactions (as blocks that arrive by sync may hold it), where the plain
model of `feiqian.testing.simulation` says what state must be to the byte; and, where the pool can tell, to a real node.
More of the same, about blocks, stands in `execution/tests/test_blocks.py`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from feiqian.core.encoding import encode
from feiqian.core.errors import InvalidTransaction
from feiqian.core.signatures import P256_ORDER, PublicKey
from feiqian.core.transactions import decode_signed, signing_bytes, transaction_id
from feiqian.execution.admission import prepare
from feiqian.execution.registry import discover
from feiqian.ledger.authority import single_key_policy
from feiqian.modules.accounts.messages import Open, Propose
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer, Freeze, Issue, PlaceHold, Transfer
from feiqian.modules.governance.messages import FreezeAccount, Vote
from feiqian.modules.governance.messages import Propose as ProposeAction
from feiqian.testing.ledgers import ASSET, SampleLedger, key_of
from feiqian.testing.processes import Channel, NodeProcess
from feiqian.testing.simulation import consortium
from feiqian.testing.simulation.world import STORE, Sent, World
from feiqian.wallet.keys import Ed25519Key, P256Key, SigningKey

Rule = tuple[str, int]
UNDECODABLE, NON_CANONICAL, TOO_LARGE, OUT_OF_RANGE = ("core", 1), ("core", 2), ("core", 3), ("core", 7)
WRONG_CHAIN, WRONG_VERSION, BAD_SIGNATURE = ("execution", 1), ("execution", 2), ("execution", 3)
BAD_ORDER, NO_SIGNATURE = ("execution", 4), ("execution", 5)

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
STRANGER = Ed25519Key(bytes(31) + b"\x07")
P256_STRANGER = P256Key(bytes(31) + b"\x07")
SMALL_ORDER = (  # libsodium's list of points of small order
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
NOT_REDUCED = (2**255 - 19 + 3).to_bytes(32, "little")


class Kit(NamedTuple):
    """What a case is made with: a ledger, and someone on it with money and a key."""

    chain_id: str
    sponsor: str
    expires_at_ms: int
    key: SigningKey
    payer: bytes
    payee: bytes
    asset: str

    def transfer(self, amount: Any = 1) -> list[Any]:
        """Return a transfer as the array that MessagePack carries."""
        return ["assets.Transfer", self.payer, self.payee, self.asset, amount, b""]

    def fields(self, *messages: Any, **changes: Any) -> list[Any]:
        """Return a transaction as the array of its fields."""
        named = {"version": 1, "chain_id": self.chain_id, "sponsor": self.sponsor, "expires": self.expires_at_ms}
        named |= {"salt": b"bad input"}
        return [*(named | changes).values(), list(messages) or [self.transfer()]]

    def body(self, *messages: Any, **changes: Any) -> bytes:
        """Return an encoded transaction."""
        return encode(self.fields(*messages, **changes))

    def signed(self, body: bytes | None = None, *keys: SigningKey) -> bytes:
        """Return a body with true signatures, in order."""
        body = self.body() if body is None else body
        return envelope(body, [signature(key, body) for key in keys or (self.key,)])


def signature(key: SigningKey, body: bytes) -> list[Any]:
    return [[key.public.scheme, key.public.data], key.sign(signing_bytes(transaction_id(body)))]


def envelope(body: Any, signatures: Sequence[Any]) -> bytes:
    return encode([body, list(signatures)])


class Case(NamedTuple):
    name: str
    rule: Rule
    make: Callable[[Kit], bytes]


def signed_fields(change: Callable[[Kit], list[Any]]) -> Callable[[Kit], bytes]:
    return lambda kit: kit.signed(encode(change(kit)))


def with_signature(change: Callable[[Kit, bytes, list[Any]], Sequence[Any]]) -> Callable[[Kit], bytes]:
    """Return a maker that puts other signatures on a good transaction; `change` is given the true one."""

    def make(kit: Kit) -> bytes:
        body = kit.body()
        return envelope(body, change(kit, body, signature(kit.key, body)))

    return make


def by_key(scheme: int, key: bytes, made: bytes = bytes(64)) -> Callable[[Kit], bytes]:
    return with_signature(lambda kit, body, true: [[[scheme, key], made]])


def high_s(kit: Kit) -> bytes:
    """A P-256 signature whose s is replaced by n − s, which textbook ECDSA accepts as well."""
    body = kit.body()
    key, made = signature(P256_STRANGER, body)
    s = int.from_bytes(made[32:], "big")
    return envelope(body, [[key, made[:32] + (P256_ORDER - s).to_bytes(32, "big")]])


def s_plus_order(kit: Kit) -> bytes:
    """An Ed25519 signature whose S is replaced by S + L, which RFC 8032 refuses."""
    body = kit.body()
    key, made = signature(kit.key, body)
    s = int.from_bytes(made[32:], "little") + ED25519_ORDER
    return envelope(body, [[key, made[:32] + s.to_bytes(32, "little")]])


def of_amount(amount: Any) -> Callable[[Kit], bytes]:
    return lambda kit: kit.signed(kit.body(kit.transfer(amount)))


def many_signatures(count: int) -> Callable[[Kit], bytes]:
    def make(kit: Kit) -> bytes:
        body = kit.body()
        keys = [Ed25519Key(hashlib.sha256(bytes([number])).digest()) for number in range(count)]
        return kit.signed(body, *sorted(keys, key=lambda key: key.public.data))

    return make


def reversed_signatures(kit: Kit) -> bytes:
    body = kit.body()
    both = sorted((signature(key, body) for key in (kit.key, STRANGER)), key=lambda entry: entry[0])
    return envelope(body, both[::-1])


def longer_integer(kit: Kit) -> bytes:
    """The amount 1 as five bytes, uint 32, where one byte says it."""
    body = kit.body()
    return kit.signed(body[: -len(b"\x01\xc4\x00")] + b"\xce\x00\x00\x00\x01\xc4\x00")


BYTES: tuple[Case, ...] = (
    Case("nothing at all", UNDECODABLE, lambda kit: b""),
    Case("truncated envelope", UNDECODABLE, lambda kit: kit.signed()[:-1]),
    Case("truncated body", UNDECODABLE, lambda kit: kit.signed(kit.body()[:-1])),
    Case("a byte after the envelope", UNDECODABLE, lambda kit: kit.signed() + b"\x00"),
    Case("oversized", TOO_LARGE, lambda kit: kit.signed(kit.body(*[kit.transfer()] * 1_500))),
    Case("oversized and nothing else", TOO_LARGE, lambda kit: bytes(128 * 1024 + 1)),
    Case("deeply nested", UNDECODABLE, lambda kit: b"\x91" * 100_000 + b"\xc0"),
    Case("deeply nested body", UNDECODABLE, lambda kit: kit.signed(b"\x91" * 100_000 + b"\xc0")),
    Case("deeply nested field", UNDECODABLE, lambda kit: kit.signed(kit.body()[:-2] + b"\x91" * 50_000 + b"\xc0")),
    Case("envelope's head in five bytes", NON_CANONICAL, lambda kit: b"\xdd\x00\x00\x00\x02" + kit.signed()[1:]),
    Case("an integer in five bytes", NON_CANONICAL, longer_integer),
    Case("a whole amount as a float", UNDECODABLE, of_amount(1.0)),
    Case("a map for an array", UNDECODABLE, lambda kit: kit.signed(encode({"version": 1}))),
    Case(
        "text that is not UTF-8", UNDECODABLE, lambda kit: kit.signed(kit.body().replace(b"assets.T", b"assets.\xff"))
    ),
    Case("an extra field in the envelope", UNDECODABLE, lambda kit: encode([*msgspec.msgpack.decode(kit.signed()), 0])),
    Case("an extra field in the transaction", UNDECODABLE, signed_fields(lambda kit: [*kit.fields(), 0])),
    Case("an extra field in the message", UNDECODABLE, signed_fields(lambda kit: kit.fields([*kit.transfer(), 0]))),
    Case("a field too few", UNDECODABLE, signed_fields(lambda kit: kit.fields()[:-1])),
    Case("no message", UNDECODABLE, signed_fields(lambda kit: [*kit.fields()[:-1], []])),
    Case("more than 100 messages", UNDECODABLE, signed_fields(lambda kit: kit.fields(*[kit.transfer()] * 101))),
    Case("an unknown message", UNDECODABLE, signed_fields(lambda kit: kit.fields(["assets.Steal", kit.payer]))),
    Case("an event for a message", UNDECODABLE, signed_fields(lambda kit: kit.fields(["ledger.Posted", []]))),
    Case("a salt too short", UNDECODABLE, signed_fields(lambda kit: kit.fields(salt=b"1234567"))),
    Case("an address too short", UNDECODABLE, lambda kit: kit._replace(payee=bytes(31)).signed()),
    Case("another version", WRONG_VERSION, signed_fields(lambda kit: kit.fields(version=2))),
    Case("another ledger", WRONG_CHAIN, signed_fields(lambda kit: kit.fields(chain_id="elsewhere-1"))),
    Case("amount zero", UNDECODABLE, of_amount(0)),
    Case("amount negative", UNDECODABLE, of_amount(-1)),
    Case("amount above 2^62", UNDECODABLE, of_amount(2**62 + 1)),
    Case("amount 2^63", UNDECODABLE, of_amount(2**63)),
    Case("amount 2^64 - 1", UNDECODABLE, of_amount(2**64 - 1)),
    Case("amount as text", UNDECODABLE, of_amount("1")),
    Case("no signature", NO_SIGNATURE, with_signature(lambda kit, body, true: [])),
    Case("one signature twice", BAD_ORDER, with_signature(lambda kit, body, true: [true, true])),
    Case("signatures out of order", BAD_ORDER, reversed_signatures),
    Case("more than 16 signatures", UNDECODABLE, many_signatures(17)),
    Case("a signature too short", UNDECODABLE, with_signature(lambda kit, body, true: [[true[0], true[1][:63]]])),
    Case("a signature of zeros", BAD_SIGNATURE, with_signature(lambda kit, body, true: [[true[0], bytes(64)]])),
    Case(
        "another's signature",
        BAD_SIGNATURE,
        with_signature(lambda kit, body, t: [[t[0], signature(STRANGER, body)[1]]]),
    ),
    Case("a signature for another order", BAD_SIGNATURE, with_signature(lambda kit, _, t: [signature(kit.key, b"x")])),
    Case("an unknown scheme", BAD_SIGNATURE, by_key(9, bytes(32))),
    Case("a key of another scheme's length", BAD_SIGNATURE, by_key(2, bytes(32))),
    Case("S beyond the order", BAD_SIGNATURE, s_plus_order),
    Case("high S", BAD_SIGNATURE, high_s),
    Case("a point that is not reduced", BAD_SIGNATURE, by_key(1, NOT_REDUCED, bytes([1]) + bytes(63))),
    Case("a P-256 point off the curve", BAD_SIGNATURE, by_key(2, b"\x02" + bytes(31) + b"\x05")),
    Case("an SM2 point off the curve", BAD_SIGNATURE, by_key(3, bytes(64))),
    # R = the identity and S = 0 satisfy the cofactored equation under keys of small order.
    *(
        Case(
            f"a key of small order, {point[:8]}", BAD_SIGNATURE, by_key(1, bytes.fromhex(point), bytes([1]) + bytes(63))
        )
        for point in SMALL_ORDER
    ),
)

AUTHORITY: tuple[Case, ...] = (
    Case("signed by a stranger", ("ledger", 10), lambda kit: kit.signed(None, STRANGER)),
    Case("signed by a stranger too", ("ledger", 11), lambda kit: kit.signed(None, *in_order(kit.key, STRANGER))),
    Case("an account that is not open", ("ledger", 5), lambda kit: kit._replace(payer=b"\xee" * 32).signed()),
    Case("at another member's cost", ("ledger", 12), lambda kit: kit.signed(kit.body(sponsor="stranger"))),
    Case("expired long ago", ("ledger", 38), lambda kit: kit.signed(kit.body(expires=1))),
    Case(
        "expires in a year",
        ("ledger", 39),
        lambda kit: kit.signed(kit.body(expires=kit.expires_at_ms + 31_536_000_000)),
    ),
)


def in_order(*keys: SigningKey) -> list[SigningKey]:
    return sorted(keys, key=lambda key: (key.public.scheme, key.public.data))


@pytest.fixture
def world() -> Iterator[World]:
    made = World(STORE)
    made.open_business()
    yield made
    made.close()


def kit_of(world: World) -> Kit:
    names = world.names
    expires_at_ms = world.time_ms + 30_000
    key = consortium.KEYS["mill"]
    return Kit(consortium.CHAIN_ID, "mill", expires_at_ms, key, names["mill"], names["watch"], "EUR.north")


def good(world: World) -> Sent:
    return world.send([Transfer(world.names["mill"], world.names["shop"], "EUR.north", 1, b"")])


def is_refused_between_good_ones(world: World, bad: Sent, rule: Rule) -> None:
    """Run good, bad, good in one block; the model checks root, every record, and that nothing of the bad one stands."""
    before = world.model.balance(world.names["shop"], "EUR.north").posted
    world.run_block([good(world), bad, good(world)], 1_000)
    assert [(answer.codespace, answer.number) for answer in world.answers] == [("", 0), rule, ("", 0)]
    assert world.model.balance(world.names["shop"], "EUR.north").posted == before + 2


@pytest.mark.parametrize("case", BYTES, ids=lambda case: case.name)
def test_bytes_that_no_pool_takes_are_refused_in_a_block_too(world: World, case: Case) -> None:
    signed = case.make(kit_of(world))
    with pytest.raises(InvalidTransaction) as caught:
        prepare(discover(), consortium.CHAIN_ID, signed)
    assert (caught.value.codespace, caught.value.number) == case.rule
    is_refused_between_good_ones(world, Sent(signed, b"", (), "mill", 0, frozenset(), case.rule), case.rule)


@pytest.mark.parametrize("case", AUTHORITY, ids=lambda case: case.name)
def test_what_may_not_stand_in_a_block_is_refused_and_keeps_its_id(world: World, case: Case) -> None:
    signed = case.make(kit_of(world))
    prepared = prepare(discover(), consortium.CHAIN_ID, signed)
    transaction = prepared.transaction
    bad = Sent(
        signed,
        decode_signed(signed).body,
        transaction.messages,
        transaction.sponsor,
        transaction.expires_at_ms,
        prepared.signers,
    )
    is_refused_between_good_ones(world, bad, case.rule)
    assert prepared.tx_id not in world.used, "an id is used up only by a transaction that was authorised"


def test_every_truncation_is_refused(world: World) -> None:
    signed = kit_of(world).signed()
    for length in range(len(signed)):
        with pytest.raises(InvalidTransaction) as caught:
            prepare(discover(), consortium.CHAIN_ID, signed[:length])
        assert (caught.value.codespace, caught.value.number) == UNDECODABLE


class Order(NamedTuple):
    name: str
    rule: Rule
    messages: Callable[[dict[str, bytes], int], Sequence[Any]]


def batch(names: dict[str, bytes], *amounts: int) -> BatchTransfer:
    legs = tuple(BatchLeg(names["shop"], amount, b"") for amount in amounts)
    return BatchTransfer(names["mill"], "EUR.north", legs)


def opening(names: dict[str, bytes], key: PublicKey) -> list[Open]:
    return [Open(names["mill"], single_key_policy(key), bytes(8))]


def junk_proposal(names: dict[str, bytes], data: bytes) -> list[Propose]:
    return [Propose(names["mill"], (data,), 1)]


RULES: tuple[Order, ...] = (
    Order("self transfer", ("assets", 2), lambda n, _: [Transfer(n["mill"], n["mill"], "EUR.north", 1, b"")]),
    Order(
        "self transfer in a batch",
        ("assets", 2),
        lambda n, _: [
            BatchTransfer(n["mill"], "EUR.north", (BatchLeg(n["shop"], 1, b""), BatchLeg(n["mill"], 1, b"")))
        ],
    ),
    Order(
        "a hold for oneself",
        ("assets", 2),
        lambda n, now: [PlaceHold(n["mill"], n["mill"], "EUR.north", 1, now + 9_000, b"")],
    ),
    Order("a sum above 2^62", OUT_OF_RANGE, lambda n, _: [batch(n, 2**62, 1)]),
    Order("a sum beyond 64 bits", OUT_OF_RANGE, lambda n, _: [batch(n, 2**62, 2**62, 2**62, 2**62)]),
    Order("more than there is", ("ledger", 19), lambda n, _: [Transfer(n["mill"], n["shop"], "EUR.north", 2**62, b"")]),
    Order(
        "a good one and a bad one",
        ("ledger", 19),
        lambda n, _: [
            Transfer(n["mill"], n["shop"], "EUR.north", 7, b""),
            Transfer(n["mill"], n["shop"], "EUR.north", 2**62, b""),
        ],
    ),
    Order("issuing past the cap", ("ledger", 21), lambda n, _: [Issue(n["mint"], n["mill"], "GLD", 3_000, b"")]),
    Order(
        "issuing past the cap by overflow",
        ("ledger", 21),
        lambda n, _: [Issue(n["mint"], n["mill"], "OIL", 2**62, b"")],
    ),
    Order(
        "to an account that is not open",
        ("ledger", 5),
        lambda n, _: [Transfer(n["mill"], b"\xee" * 32, "EUR.north", 1, b"")],
    ),
    Order(
        "an asset that is not defined", ("ledger", 13), lambda n, _: [Transfer(n["mill"], n["shop"], "NONE", 1, b"")]
    ),
    *(
        Order(
            f"a policy with a key of small order, {point[:8]}",
            ("core", 5),
            lambda n, _, point=point: opening(n, PublicKey(1, bytes.fromhex(point))),
        )
        for point in SMALL_ORDER
    ),
    Order("a policy with a key that is not reduced", ("core", 5), lambda n, _: opening(n, PublicKey(1, NOT_REDUCED))),
    Order(
        "a policy with a point off the curve", ("core", 5), lambda n, _: opening(n, PublicKey(2, b"\x05" + bytes(32)))
    ),
    Order("a policy with an unknown scheme", ("core", 6), lambda n, _: opening(n, PublicKey(9, bytes(32)))),
)


@pytest.mark.parametrize("order", RULES, ids=lambda order: order.name)
def test_what_breaks_a_rule_is_recorded_and_changes_nothing(world: World, order: Order) -> None:
    bad = world.send(order.messages(world.names, world.time_ms))
    is_refused_between_good_ones(world, bad, order.rule)


@pytest.mark.parametrize(
    ("data", "rule"),
    [(b"", UNDECODABLE), (b"junk", UNDECODABLE), (b"\x91" * 5_000, UNDECODABLE), (b"\xd9", UNDECODABLE)],
    ids=["empty", "junk", "nested", "truncated"],
)
def test_bad_bytes_inside_a_proposal_are_refused(world: World, data: bytes, rule: Rule) -> None:
    from feiqian.testing.simulation.model import MEANINGS, Refusal

    MEANINGS[data] = Refusal(*rule)
    is_refused_between_good_ones(world, world.send(junk_proposal(world.names, data)), rule)


def test_the_same_transaction_again_is_refused_within_a_block_and_after_it(world: World) -> None:
    first = good(world)
    world.run_block([first, first], 1_000)
    assert [(answer.codespace, answer.number) for answer in world.answers] == [("", 0), ("ledger", 40)]
    is_refused_between_good_ones(world, first, ("ledger", 40))


def test_the_true_one_still_runs_after_stripped_and_altered_copies_in_earlier_blocks() -> None:
    """An observer sends first, in blocks of its own: without a checker's signature, forged, with a key too many."""
    world = World(STORE)
    world.open_business()
    board = world.names["mill-board"]
    true = world.send([BatchTransfer(board, "EUR.north", (BatchLeg(world.names["shop"], 500, b""),))])
    names = {consortium.NAME_OF[key] for key in true.signers}
    assert names >= {"mill-maker"}
    assert len(names) >= 2
    keys = {name: consortium.KEYS[name].public for name in consortium.KEYS}
    for copy, rule in (
        (world.signed_by(true, [keys["mill-maker"]]), ("ledger", 10)),
        (world.forged(true), BAD_SIGNATURE),
        (world.signed_by(true, [*true.signers, keys["spare"]]), ("ledger", 11)),
    ):
        is_refused_between_good_ones(world, copy, rule)
    world.run_block([true], 1_000)
    assert [(answer.codespace, answer.number) for answer in world.answers] == [("", 0)]
    world.close()


def test_frozen_accounts_neither_act_nor_send_nor_receive() -> None:
    """Frozen by vote in all assets, and by its controller in one; the model keeps every balance as it was."""
    world = World(STORE)
    world.open_business()
    names = world.names
    freezing = ProposeAction(names["mint"], FreezeAccount(names["shop-2"], "court order"), "")
    one_asset = Freeze(names["watch-2"], names["mill-board"], "OIL", "SANCTIONS")
    world.run_block([world.send([freezing]), world.send([one_asset])], 1_000)
    proposals = world.model.table("governance.proposals")
    (voted,) = [key for key, facts in proposals.items() if facts.action == freezing.action]
    world.run_block([world.send([Vote(names["north"], voted, True)])], 1_000)
    assert not world.answers[0].number
    shop = [consortium.KEYS["shop"].public]
    frozen, paid = ("ledger", 7), Transfer(names["mill"], names["shop-2"], "EUR.north", 1, b"")
    acting = world.send([Transfer(names["shop-2"], names["mill"], "EUR.north", 1, b"")], shop)
    sending = world.send([Transfer(names["mill-board"], names["watch"], "OIL", 1, b"")])
    receiving = world.send([Transfer(names["shop"], names["mill-board"], "OIL", 1, b"")])
    for bad, rule in (
        (acting, frozen),
        (world.send([paid]), frozen),
        (sending, ("ledger", 22)),
        (receiving, ("ledger", 22)),
    ):
        is_refused_between_good_ones(world, bad, rule)
    world.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SampleLedger, Channel]]:
    ledger = SampleLedger(tmp_path_factory.mktemp("bad-input") / "ledger", discover())
    with NodeProcess(ledger.directory) as process:
        channel = process.await_ready().connect()
        yield ledger, channel
        assert process.terminate() == 0


def test_a_node_refuses_each_with_its_number_makes_no_block_of_it_and_goes_on(
    node: tuple[SampleLedger, Channel], tmp_path: Path
) -> None:
    ledger, channel = node
    issue = ledger.issue("lantern", 1_000)
    expires_at_ms = prepare(discover(), "sample-1", issue).transaction.expires_at_ms
    sponsor, payer, payee = ledger.members["lantern"], ledger.addresses["lantern"], ledger.addresses["south"]
    kit = Kit("sample-1", sponsor, expires_at_ms, key_of("lantern"), payer, payee, ASSET)
    channel.subscribe()
    assert [verdict.number for verdict in channel.submit([issue])] == [0]
    settled = channel.next_stored()
    while len(settled.results) < 2:
        settled = channel.next_stored()
    settled = channel.next_stored()  # the empty block that proves it; after it the ledger is idle
    cases = [*BYTES, *AUTHORITY]
    for case in cases:
        (verdict,) = channel.submit([case.make(kit)])
        assert (verdict.codespace, verdict.number) == case.rule, f"{case.name}: {verdict.message}"
    status = channel.status()
    assert (status.height, status.app_hash) == (settled.height, settled.app_hash)
    batch_verdicts = channel.submit([*[case.make(kit) for case in cases], ledger.transfer("lantern", "south", 1)])
    assert [(verdict.codespace, verdict.number) for verdict in batch_verdicts] == [case.rule for case in cases] + [
        ("", 0)
    ]
    following = channel.next_stored()
    assert following.height == settled.height + 1
    assert following.app_hash != settled.app_hash
