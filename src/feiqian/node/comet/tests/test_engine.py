"""The network engine: what it proposes, refuses, runs once, puts on disk, and returns to the pool."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from feiqian.core.errors import InvalidBlock, Undecodable
from feiqian.core.transactions import Signature, decode_signed, encode_signed, signing_bytes, transaction_id
from feiqian.execution.admission import encode_bundle
from feiqian.execution.blocks import MAX_BUNDLE_BYTES, RESULT, RESULTS_CODEC
from feiqian.execution.errors import SignatureInvalid
from feiqian.execution.registry import Registry
from feiqian.ledger.errors import NotAuthorised, TransactionExpired, TransactionReplayed
from feiqian.node.comet.engine import OnDisk, Proposed
from feiqian.node.comet.tests.conftest import ROOM_BYTES, Member, RunMember, RunMembers
from feiqian.node.process import clock_ms
from feiqian.node.tellers import Tellers
from feiqian.node.verifier import CHUNK
from feiqian.testing.ledgers import SampleLedger, consortium_text, key_of
from feiqian.testing.processes import ANSWER_S


def block_of(member: Member, *bundles: bytes, time_ms: int | None = None) -> Proposed:
    return Proposed(member.engine.stored_height + 1, clock_ms() if time_ms is None else time_ms, bundles, ())


def bundle_of(*signed: bytes) -> bytes:
    return encode_bundle(signed)


def results_of(member: Member) -> list[Any]:
    block = member.store.block(member.store.height)
    assert block is not None
    return [RESULT.decode(entry.result) for entry in RESULTS_CODEC.decode(block.results)]


def sign_body(body: bytes, account: str) -> bytes:
    key = key_of(account)
    message = signing_bytes(transaction_id(body))
    return encode_signed(body, (Signature(key.public, key.sign(message)),))


def test_what_was_submitted_is_proposed_decided_and_on_disk(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        await member.submit(member.ledger.transfer("treasury", "south", 250))
        proposed = await member.engine.propose(3, clock_ms(), ROOM_BYTES, ())
        assert len(proposed.bundles) == 1
        await member.engine.judge(proposed)
        assert (member.store.height, member.posted("south")) == (2, 0)
        finalised = await member.engine.finalise(proposed)
        assert (member.store.height, len(finalised.bundle_results)) == (2, 1)
        assert await member.engine.commit() == OnDisk(3, had_room=True)
        assert (member.store.height, member.store.app_hash) == (3, finalised.app_hash)
        assert (member.posted("treasury"), member.posted("south")) == (750, 250)
        assert member.pool.size == (0, 0)
        assert [told.height for told in member.committed] == [1, 2, 3]

    run_member(test)


def test_two_members_come_to_the_same_state_whoever_proposes(run_members: RunMembers) -> None:
    async def test(members: Sequence[Member]) -> None:
        for height in range(1, 6):
            proposer = members[height % 2]
            if height > 1:
                await proposer.submit(proposer.ledger.issue("treasury", height))
            time_ms = proposer.genesis.time_ms if height == 1 else clock_ms()
            proposed = await proposer.engine.propose(height, time_ms, ROOM_BYTES, ())
            answers = []
            for member in members:
                await member.engine.judge(proposed)
                answers.append(await member.engine.finalise(proposed))
                await member.engine.commit()
            assert answers[0] == answers[1]
        assert members[0].store.app_hash == members[1].store.app_hash
        assert [member.posted("treasury") for member in members] == [2 + 3 + 4 + 5] * 2

    run_members(test)


def test_a_proposal_that_holds_what_no_block_may_hold_is_refused(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        ledger = member.ledger
        good = ledger.transfer("treasury", "south", 1)
        used = ledger.transfer("treasury", "south", 2)
        await member.decide(used)
        forged = decode_signed(good)
        signature = forged.signatures[0]
        broken = encode_signed(forged.body, (type(signature)(signature.key, bytes(64)),))
        cases = [
            ("Undecodable", "truncated", b"\x93"),
            ("NonCanonical", "not the canonical encoding", b"\xdc\x00\x01" + bundle_of(good)[1:]),
            ("EmptyBundle", "without transactions", bundle_of()),
            ("BundleTooLarge", f"at most {MAX_BUNDLE_BYTES} are accepted", bytes(MAX_BUNDLE_BYTES + 1)),
            ("Undecodable", "Expected `array`", bundle_of(good, b"nothing")),
            ("SignatureInvalid", "does not verify", bundle_of(broken)),
            ("TransactionExpired", "expired", bundle_of(ledger.transfer("treasury", "south", 3, lifetime_ms=-1_000))),
            ("TransactionReplayed", "was already taken", bundle_of(used)),
            ("TransactionReplayed", "stands in this block already", bundle_of(good, good)),
            (
                "NotAuthorised",
                "weight 1 of role 'owner'",
                bundle_of(ledger.transfer("treasury", "south", 4, signers=["lantern"])),
            ),
            (
                "ExpiryTooFar",
                "at most 600000 ms after block time",
                bundle_of(ledger.transfer("treasury", "south", 5, lifetime_ms=3_600_000)),
            ),
        ]
        height, root = member.store.height, member.store.app_hash
        for rule, words, bundle in cases:
            with pytest.raises(InvalidBlock, match=words) as refusal:
                await member.engine.judge(block_of(member, bundle))
            assert refusal.value.rule == rule
        assert (member.store.height, member.store.app_hash) == (height, root)
        await member.engine.judge(block_of(member, bundle_of(good)))

    run_member(test)


def test_of_a_block_that_came_by_sync_what_may_not_stand_in_it_is_recorded_as_refused(run_member: RunMember) -> None:
    """Such a block passed no proposal check here: over two thirds agreed on it all the same."""

    async def test(member: Member) -> None:
        ledger = member.ledger
        stolen = ledger.transfer("treasury", "south", 7, signers=["lantern"])
        good = ledger.transfer("treasury", "south", 8)
        body = decode_signed(stolen).body
        await member.engine.finalise(block_of(member, bundle_of(stolen, good), b"\x93"))
        await member.engine.commit()
        assert [(each.codespace, each.number) for each in results_of(member)] == [
            (NotAuthorised.codespace, NotAuthorised.number),
            ("", 0),
            (Undecodable.codespace, Undecodable.number),
        ]
        assert member.posted("south") == 8
        # The id of the refused one is not used up: its true signer may still send it.
        await member.decide(sign_body(body, "treasury"))
        assert member.posted("south") == 15

    run_member(test)


def test_a_proposal_does_not_wait_for_what_only_wants_into_the_pool(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        many = [member.ledger.transfer("treasury", "south", 1) for _ in range(20 * CHUNK)]
        stranger = member.ledger.transfer("treasury", "south", 250)
        submitting = asyncio.create_task(member.submit(*many))
        for _ in range(3):  # the submission's task, then one for each chunk, begin
            await asyncio.sleep(0)
        assert member.pool.checking == len(many)
        await member.engine.judge(block_of(member, bundle_of(stranger)))
        assert member.pool.checking > 10 * CHUNK
        await submitting

    run_member(test)


def test_what_was_judged_and_not_decided_leaves_no_trace(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        first, second = (member.ledger.transfer("treasury", "south", amount) for amount in (3, 5))
        other, decided = block_of(member, bundle_of(first)), block_of(member, bundle_of(second))
        await member.engine.judge(other)
        await member.engine.judge(decided)
        await member.engine.judge(other)
        finalised = await member.engine.finalise(decided)
        await member.engine.commit()
        assert (member.posted("south"), member.store.app_hash) == (5, finalised.app_hash)
        await member.decide(first)
        assert member.posted("south") == 8

    run_member(test)


def test_what_was_cut_for_a_proposal_that_failed_is_proposed_again(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        mine, others = (member.ledger.transfer("treasury", "south", amount) for amount in (3, 5))
        await member.submit(mine, others)
        first = await member.engine.propose(3, clock_ms(), ROOM_BYTES, ())
        again = await member.engine.propose(3, clock_ms(), ROOM_BYTES, ())
        assert again.bundles == first.bundles == (bundle_of(mine, others),)
        decided = block_of(member, bundle_of(others))
        await member.engine.finalise(decided)
        await member.engine.commit()
        assert (member.pool.waiting, member.pool.size.transactions) == (1, 1)
        await member.decide()
        assert member.posted("south") == 8

    run_member(test)


def test_a_finalised_block_may_be_finalised_again_before_it_is_committed(run_member: RunMember) -> None:
    """CometBFT was killed in between, and tells of the block anew."""

    async def test(member: Member) -> None:
        decided = block_of(member, bundle_of(member.ledger.transfer("treasury", "south", 3)))
        assert await member.engine.finalise(decided) == await member.engine.finalise(decided)
        await member.engine.commit()
        assert member.posted("south") == 3

    run_member(test)


def test_after_a_halt_what_is_too_far_ahead_of_block_time_waits_and_is_not_lost(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        # The last block is half an hour old, and so is the time of the next: its voters' clocks of then.
        long_ago = clock_ms() + 60_000
        await member.submit(member.ledger.transfer("treasury", "south", 3, lifetime_ms=500_000))
        member.engine._time_ms = long_ago - 1_800_000
        await member.submit(member.ledger.transfer("treasury", "south", 5, lifetime_ms=600_000))
        assert member.pool.waiting == 1
        proposed = await member.engine.propose(3, clock_ms() + 100_000, ROOM_BYTES, ())
        await member.engine.finalise(proposed)
        await member.engine.commit()
        assert (member.posted("south"), member.pool.size) == (8, (0, 0))

    run_member(test)


def test_a_node_that_proposes_nothing_drops_what_has_expired_and_says_so(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        await member.submit(member.ledger.transfer("treasury", "south", 3, lifetime_ms=2_000))
        await member.engine.finalise(block_of(member, time_ms=clock_ms() + 60_000))
        await member.engine.commit()
        assert member.pool.size == (0, 0)
        assert [(drop.codespace, drop.number) for drop in member.drops] == [
            (TransactionExpired.codespace, TransactionExpired.number)
        ]

    run_member(test)


def test_a_full_block_is_said_to_have_had_no_room(tmp_path: Path, registry: Registry) -> None:
    """600 transfers of more than 1,800 units of work each, where a block holds 1,000,000."""

    async def test() -> None:
        text = consortium_text({"max_block_work": 1_000_000, "sponsor_block_work": 1_000_000})
        member = Member(SampleLedger(tmp_path / "ledger", registry, text), registry)
        async with member.running():
            await member.decide()
            await member.decide(member.ledger.issue("treasury", 1_000))
            await member.submit(*[member.ledger.transfer("treasury", "south", 1) for _ in range(600)])
            kept: list[OnDisk] = []
            for height in (3, 4, 5):
                proposed = await member.engine.propose(height, clock_ms(), ROOM_BYTES, ())
                await member.engine.judge(proposed)
                await member.engine.finalise(proposed)
                kept.append(await member.engine.commit())
            assert kept == [OnDisk(3, had_room=False), OnDisk(4, had_room=True), OnDisk(5, had_room=True)]
            assert member.posted("south") == 600

    asyncio.run(test())


def test_a_block_takes_no_more_than_it_is_given_room_for(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        await member.submit(*[member.ledger.transfer("treasury", "south", 1) for _ in range(60)])
        proposed = await member.engine.propose(3, clock_ms(), 8_192, ())
        assert 0 < sum(map(len, proposed.bundles)) <= 8_192 - 1_024
        await member.engine.finalise(proposed)
        await member.engine.commit()
        assert member.pool.waiting == 60 - member.posted("south")

    run_member(test)


def test_an_idle_member_waits_for_work_and_no_longer(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        # The last block is to be proved: at once.
        await asyncio.wait_for(member.engine.await_work(3_600), ANSWER_S)
        await member.decide()
        waiting = asyncio.create_task(member.engine.await_work(3_600))
        await asyncio.sleep(0)
        assert not waiting.done()
        await member.submit(member.ledger.transfer("treasury", "south", 1))
        await asyncio.wait_for(waiting, ANSWER_S)
        await member.decide()
        await member.decide()
        await member.engine.await_work(0.001)

    run_member(test)


def test_a_sender_is_told_of_what_was_left_out(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        await member.submit(member.ledger.transfer("treasury", "south", 1, lifetime_ms=2_000))
        proposed = await member.engine.propose(3, clock_ms() + 10_000, ROOM_BYTES, ())
        assert proposed.bundles == ()
        assert [(drop.codespace, drop.number) for drop in member.drops] == [
            (TransactionExpired.codespace, TransactionExpired.number)
        ]

    run_member(test)


def test_of_what_a_peer_tells_signatures_and_replay_are_checked_of_all_and_the_rest_by_a_sample(
    run_member: RunMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(member: Member) -> None:
        ledger = member.ledger
        used = ledger.transfer("treasury", "south", 1)
        await member.decide(used)
        good = [ledger.transfer("treasury", "south", amount) for amount in (2, 3)]
        lie = ledger.transfer("treasury", "south", 4, signers=["lantern"])
        forged = decode_signed(ledger.transfer("treasury", "south", 5))
        broken = encode_signed(forged.body, (Signature(forged.signatures[0].key, bytes(64)),))
        told = [good[0], lie, used, broken, good[1]]

        monkeypatch.setattr(Tellers, "sample", lambda self, teller, count: (4,))
        verdicts = await member.intake.submit(told, "ab" * 20)
        assert [verdict.number for verdict in verdicts] == [
            0,
            0,
            TransactionReplayed.number,
            SignatureInvalid.number,
            0,
        ]
        proposed = await member.engine.propose(member.engine.stored_height + 1, clock_ms(), ROOM_BYTES, ())
        assert proposed.bundles == (bundle_of(*good),), "whoever proposes leaves out what slipped in"
        assert [drop.number for drop in member.drops] == [NotAuthorised.number]
        assert member.pool.find(lie) is None

        monkeypatch.setattr(Tellers, "sample", lambda self, teller, count: (0,))
        verdicts = await member.intake.submit([lie, used], "ab" * 20)
        assert [verdict.number for verdict in verdicts] == [NotAuthorised.number, TransactionReplayed.number]
        monkeypatch.undo()
        batch = [ledger.transfer("treasury", "south", 10 + place) for place in range(20)]
        verdicts = await member.intake.submit([*batch, lie], "ab" * 20)
        assert [verdict.number for verdict in verdicts] == [0] * 20 + [NotAuthorised.number], "now doubted"

    run_member(test)
