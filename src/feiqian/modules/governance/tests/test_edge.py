"""The governance tables of a real SQL index, written from events, and what the routes read."""

from feiqian.core.addresses import to_text
from feiqian.core.hashing import sha256
from feiqian.execution.registry import discover
from feiqian.index.database import migrate, open_engine
from feiqian.index.writer import Base, IndexWriter
from feiqian.ledger.members import set_member
from feiqian.ledger.records import Member, NodeRecord, ValidatorRecord
from feiqian.ledger.validators import Misbehaviour, put_node, put_validator
from feiqian.modules.governance.edge import reading
from feiqian.modules.governance.edge.projections import PROJECTION
from feiqian.modules.governance.edge.shapes import (
    BallotBody,
    GovernorBody,
    MisbehaviourBody,
    NetworkBody,
    NodeBody,
    ProposalBody,
    ValidatorBody,
)
from feiqian.modules.governance.messages import Propose, ScheduleUpgrade, SuspendMember, Vote, Withdraw
from feiqian.modules.governance.misbehaviour import misbehaviour
from feiqian.testing import key_of


def indexed(tmp_path, world, events):
    engine = open_engine(f"sqlite:///{tmp_path / 'index.db'}")
    migrate(engine)
    IndexWriter(engine, discover(), [PROJECTION]).begin(Base("test-1", 7, world.time_ms, bytes(32), events))
    return engine


def test_proposals_and_votes(tmp_path, world):
    suspend = world.run(Propose(world["harbour-bank"], SuspendMember("ada-works"), "three months late"))
    first = suspend[0].proposal
    upgrade = world.run(Propose(world["lotus-bank"], ScheduleUpgrade(120, 2), ""))
    second = upgrade[0].proposal
    events = [*suspend, *upgrade, *world.run(Vote(world["regulator"], second, False))]
    events += world.run(Vote(world["regulator"], first, True))
    events += world.run(Withdraw(world["lotus-bank"], second))
    engine = indexed(tmp_path, world, events)
    now_ms, until_ms = world.time_ms, world.time_ms + 7 * 86_400_000
    approved = ProposalBody(
        proposal=first.hex(),
        height=7,
        proposer="harbour-bank",
        kind="governance.SuspendMember",
        action={"type": "governance.SuspendMember", "member": "ada-works"},
        rationale="three months late",
        opened_at_ms=now_ms,
        expires_at_ms=until_ms,
        status="approved",
        decided_at_ms=now_ms,
        approvals=2,
        rejections=0,
    )
    withdrawn = ProposalBody(
        proposal=second.hex(),
        height=7,
        proposer="lotus-bank",
        kind="governance.ScheduleUpgrade",
        action={"type": "governance.ScheduleUpgrade", "height": 120, "app_version": 2},
        rationale="",
        opened_at_ms=now_ms,
        expires_at_ms=until_ms,
        status="withdrawn",
        decided_at_ms=now_ms,
        approvals=1,
        rejections=1,
    )
    found = reading.proposals(engine, None, None, 10)
    assert [body for _, body in found] == [withdrawn, approved]
    assert reading.proposals(engine, None, found[0][0], 10) == found[1:]
    assert [body for _, body in reading.proposals(engine, "approved", None, 10)] == [approved]
    assert reading.proposals(engine, "open", None, 10) == []
    shown = reading.proposal(engine, first)
    assert shown is not None
    assert shown.proposal == approved
    assert shown.ballots == [BallotBody("harbour-bank", True, now_ms, 7), BallotBody("regulator", True, now_ms, 7)]
    assert reading.proposal(engine, bytes(32)) is None


def test_how_things_stand(world):
    world.enact(ScheduleUpgrade(120, 2))
    standing = reading.standing(world.state)
    assert (standing.approvals_needed, standing.voting_days) == (2, 7)
    assert standing.governors == [
        GovernorBody(member, to_text(world[member])) for member in ("harbour-bank", "lotus-bank", "regulator")
    ]
    assert (standing.upgrade_height, standing.upgrade_app_version) == (120, 2)
    assert standing.parameters["max_block_bytes"] == 4_194_304


def test_a_ledger_that_nobody_governs(founded):
    for member in ("harbour-bank", "lotus-bank", "regulator"):
        founded.do(set_member, member, Member(member, None, None, None, (), None, False), is_founding=True)
    standing = reading.standing(founded.state)
    assert (standing.approvals_needed, standing.voting_days, standing.governors) == (None, None, [])


def run_by(world, **powers):
    """Give members a validator of their own each, and return its key by member."""
    keys = {name: key_of(name).data for name in powers}
    for name, power in powers.items():
        world.do(put_validator, keys[name], ValidatorRecord(name, f"{name} 1", power))
    world.next_block()
    return keys


def test_how_the_network_stands(world):
    keys = run_by(world, regulator=10, **{"lotus-bank": 20})
    world.do(put_node, keys["regulator"], NodeRecord("regulator", "regulator node"))
    address = sha256(keys["regulator"]).hex()[:40]
    proved = Misbehaviour("duplicate-vote", bytes.fromhex(address), 90, world.time_ms - 1, 10)
    world.do(misbehaviour, proved)
    of_lotus = sha256(keys["lotus-bank"]).hex()[:40].upper()
    assert reading.network(world.state) == NetworkBody(
        [ValidatorBody(keys["lotus-bank"].hex(), of_lotus, "lotus-bank", "lotus-bank 1", 20)],
        [NodeBody(keys["regulator"].hex(), address, "regulator", "regulator node")],
        [
            MisbehaviourBody(
                address=address.upper(),
                member="regulator",
                name="regulator 1",
                kind="duplicate-vote",
                height=90,
                outcome="removed",
                recorded_at_ms=world.time_ms,
                recorded_at_height=101,
            )
        ],
    )


def test_what_the_ledger_itself_proposed(tmp_path, world):
    keys = run_by(world, regulator=10)
    proved = Misbehaviour("light-client-attack", sha256(keys["regulator"])[:20], 90, world.time_ms - 1, 10)
    engine = indexed(tmp_path, world, world.do(misbehaviour, proved))
    ((_, body),) = reading.proposals(engine, None, None, 10)
    assert (body.proposer, body.kind, body.status) == (None, "governance.RemoveValidator", "open")
    assert body.action == {"type": "governance.RemoveValidator", "public_key": keys["regulator"].hex()}
