"""The governance tables of a real SQL index, written from events, and what the routes read."""

from feiqian.core.addresses import to_text
from feiqian.execution.registry import discover
from feiqian.index.database import migrate, open_engine
from feiqian.index.writer import Base, IndexWriter
from feiqian.ledger.members import set_member
from feiqian.ledger.records import Member
from feiqian.modules.governance.edge import reading
from feiqian.modules.governance.edge.projections import PROJECTION
from feiqian.modules.governance.edge.shapes import BallotBody, GovernorBody, ProposalBody
from feiqian.modules.governance.messages import Propose, ScheduleUpgrade, SuspendMember, Vote, Withdraw


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
