"""What the gateway's routes read for governance: how things stand from state, proposals and votes from the index."""

import msgspec
import sqlalchemy as sa

from feiqian.core.addresses import to_text
from feiqian.core.hashing import VALIDATOR_ADDRESS_BYTES, validator_address
from feiqian.index.tables import split_position
from feiqian.ledger.accounts import administration_of
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.upgrades import scheduled_upgrade
from feiqian.ledger.validators import NODES, VALIDATORS
from feiqian.modules.governance.edge.projections import BALLOTS, PROPOSALS
from feiqian.modules.governance.edge.shapes import (
    BallotBody,
    GovernanceBody,
    GovernorBody,
    MisbehaviourBody,
    NetworkBody,
    NodeBody,
    ProposalBody,
    ProposalWithBallots,
    ValidatorBody,
)
from feiqian.modules.governance.state import MISBEHAVIOURS, RULES, RULES_KEY, MisbehaviourRecord, governors
from feiqian.state.tables import Overlay

MAX_BALLOTS = 10_000


def standing(state: Overlay) -> GovernanceBody:
    """Return who governs by which rules, the parameters and the upgrade ahead."""
    rules = RULES.get(state, RULES_KEY)
    upgrade = scheduled_upgrade(state)
    in_office = []
    for member in governors(state):
        administration = administration_of(state, member)
        if administration is not None:
            in_office.append(GovernorBody(member, to_text(administration)))
    return GovernanceBody(
        approvals_needed=None if rules is None else rules.approvals_needed,
        voting_days=None if rules is None else rules.voting_days,
        governors=in_office,
        parameters=msgspec.structs.asdict(get_parameters(state)),
        upgrade_height=None if upgrade is None else upgrade.height,
        upgrade_app_version=None if upgrade is None else upgrade.app_version,
    )


def network(state: Overlay) -> NetworkBody:
    """Return who runs the network, and what consensus proved of validators."""
    return NetworkBody(
        validators=[
            ValidatorBody(key.hex(), validator_address(key).hex().upper(), record.member, record.name, record.power)
            for key, record in VALIDATORS.scan(state)
        ],
        nodes=[
            # A node's id is made of its key as a validator's address is; CometBFT writes this one in small letters.
            NodeBody(key.hex(), validator_address(key).hex(), record.member, record.name)
            for key, record in NODES.scan(state)
        ],
        misbehaviour=[_misbehaviour(key, record) for key, record in MISBEHAVIOURS.scan(state)],
    )


def proposals(engine: sa.Engine, status: str | None, before: int | None, limit: int) -> list[tuple[int, ProposalBody]]:
    """Return (position, proposal), newest first, of one status if asked."""
    question = sa.select(PROPOSALS).order_by(PROPOSALS.c.position.desc()).limit(limit)
    if status is not None:
        question = question.where(PROPOSALS.c.status == status)
    if before is not None:
        question = question.where(PROPOSALS.c.position < before)
    with engine.connect() as connection:
        return [(row.position, _proposal(row)) for row in connection.execute(question)]


def proposal(engine: sa.Engine, proposal_id: bytes) -> ProposalWithBallots | None:
    """Return a proposal with its votes."""
    cast = sa.select(BALLOTS).where(BALLOTS.c.proposal == proposal_id).order_by(BALLOTS.c.position).limit(MAX_BALLOTS)
    with engine.connect() as connection:
        row = connection.execute(sa.select(PROPOSALS).where(PROPOSALS.c.proposal == proposal_id)).one_or_none()
        if row is None:
            return None
        ballots = [
            BallotBody(ballot.member, ballot.is_approval, ballot.time_ms, split_position(ballot.position)[0])
            for ballot in connection.execute(cast)
        ]
    return ProposalWithBallots(_proposal(row), ballots)


def _misbehaviour(key: bytes, record: MisbehaviourRecord) -> MisbehaviourBody:
    height_end = VALIDATOR_ADDRESS_BYTES + 8
    return MisbehaviourBody(
        address=key[:VALIDATOR_ADDRESS_BYTES].hex().upper(),
        member=record.member,
        name=record.name,
        kind=key[height_end:].decode(),
        height=int.from_bytes(key[VALIDATOR_ADDRESS_BYTES:height_end], "big"),
        outcome=record.outcome,
        recorded_at_ms=record.recorded_at_ms,
        recorded_at_height=record.recorded_at_height,
    )


def _proposal(row: sa.Row) -> ProposalBody:
    return ProposalBody(
        proposal=row.proposal.hex(),
        height=split_position(row.position)[0],
        proposer=row.proposer,
        kind=row.kind,
        action=msgspec.json.decode(row.action),
        rationale=row.rationale,
        opened_at_ms=row.opened_at_ms,
        expires_at_ms=row.expires_at_ms,
        status=row.status,
        decided_at_ms=row.decided_at_ms,
        approvals=row.approvals,
        rejections=row.rejections,
    )
