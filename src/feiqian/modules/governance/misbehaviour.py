"""What follows when consensus proves that a validator broke its rules: a record, and where allowed its removal."""

from feiqian.ledger.context import Context
from feiqian.ledger.errors import LedgerError
from feiqian.ledger.validators import (
    Misbehaviour,
    RunningValidator,
    check_removal,
    remove_validator,
    validator_by_address,
)
from feiqian.modules.governance.events import ValidatorLeftInPlace, ValidatorMisbehaved
from feiqian.modules.governance.handlers import open_proposal
from feiqian.modules.governance.messages import RemoveValidator
from feiqian.modules.governance.state import (
    GONE,
    LEFT_IN_PLACE,
    MISBEHAVIOURS,
    REMOVED,
    RULES,
    RULES_KEY,
    MisbehaviourRecord,
    misbehaved,
    misbehaviour_key,
)

MAX_RULE_CHARACTERS = 140


def misbehaviour(ctx: Context, proved: Misbehaviour) -> None:
    """Record what consensus proved, once, and remove the validator unless the rules on the set forbid it.

    Where they do, the governors are called: by an event, and the first time by a proposal of the ledger's own.
    """
    key = misbehaviour_key(proved)
    if MISBEHAVIOURS.has(ctx.state, key):
        return
    caught_before = misbehaved(ctx.state, proved.validator)
    found = validator_by_address(ctx.state, proved.validator)
    forbidding = None if found is None else _rule_against_removal(ctx, found.public_key)
    outcome = GONE if found is None else REMOVED if forbidding is None else LEFT_IN_PLACE
    public_key, member, name = None, None, None
    if found is not None:
        public_key, member, name = found.public_key, found.record.member, found.record.name
    elif caught_before is not None:
        public_key, member, name = caught_before.public_key, caught_before.member, caught_before.name
    MISBEHAVIOURS.put(
        ctx.state,
        key,
        MisbehaviourRecord(
            public_key, member, name, proved.time_ms, proved.power, outcome, ctx.block.time_ms, ctx.block.height
        ),
    )
    ctx.emit(
        ValidatorMisbehaved(
            proved.validator, public_key, member, name, proved.kind, proved.height, proved.power, outcome
        )
    )
    if found is not None and forbidding is None:
        remove_validator(ctx, found.public_key)
    elif found is not None and forbidding is not None:
        _call_governors(ctx, found, forbidding, is_first=caught_before is None)


def _rule_against_removal(ctx: Context, public_key: bytes) -> str | None:
    try:
        check_removal(ctx, public_key)
    except LedgerError as rule:
        return rule.message[:MAX_RULE_CHARACTERS]
    return None


def _call_governors(ctx: Context, found: RunningValidator, rule: str, *, is_first: bool) -> None:
    record, proposal_id = found.record, None
    if is_first and RULES.has(ctx.state, RULES_KEY):
        rationale = "consensus proved its misbehaviour, and it cannot be removed by rule"
        proposal_id, _ = open_proposal(ctx, None, RemoveValidator(found.public_key), rationale)
    ctx.emit(ValidatorLeftInPlace(found.public_key, record.member, record.name, record.power, rule, proposal_id))
