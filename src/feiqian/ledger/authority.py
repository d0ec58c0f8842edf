"""Authority: policies, and whether a transaction's signatures meet those of every account that it acts for."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from feiqian.core.addresses import to_text
from feiqian.core.encoding import Codec, encode
from feiqian.core.errors import CoreError
from feiqian.core.signatures import PublicKey, check_key
from feiqian.ledger.context import Claim, Message
from feiqian.ledger.errors import (
    AccountFrozen,
    AccountUnknown,
    MalformedPolicy,
    NoAccountClaimed,
    NotAuthorised,
    SignatureNotNeeded,
    SponsorNotConcerned,
)
from feiqian.ledger.members import require_active
from feiqian.ledger.records import Account, Policy, PolicyKey, PolicyRule, RoleThreshold
from feiqian.state.tables import Overlay, Table

ACCOUNTS: Table[Account] = Table("ledger.accounts", Account)
MAX_POLICY_BYTES = 12 * 1024

_POLICY: Codec[Policy] = Codec(Policy, "policy")
_ROLE = re.compile(r"[a-z][a-z0-9-]*")
_KIND = re.compile(r"\*|[a-z][a-z0-9_]*\.(\*|[A-Z][A-Za-z0-9]*(\.[0-9]+)?)")


Met = tuple[Account, PolicyRule | None]
"""An account whose policy is met, and the rule that decided; None where a contribution needs any one key."""


class Contribution(Message):
    """A message by which keys add their weight to something pending, rather than act.

    One signature by any key of the account's policy suffices, unless a rule of it names this message's tag in full.
    """


def authorise(
    state: Overlay, transaction_messages: Sequence[Message], sponsor: str, signers: frozenset[PublicKey]
) -> None:
    """Refuse a transaction whose signatures do not meet the policy of every account that its messages act for.

    Each message is weighed by itself. `state` is that of the start of the block.

    Raises:
        NoAccountClaimed: a message acts for no account.
        AccountUnknown, AccountFrozen, MemberUnknown, MemberSuspended: an account may not act.
        NotAuthorised: a policy is not met.
        SponsorNotConcerned: no account claimed is the sponsor's.
        SignatureNotNeeded: a signer's key is in no role that a deciding rule asks for.
    """
    met: list[Met] = []
    for message in transaction_messages:
        met += _met(state, message, signers)
    for account, _ in met:
        if account.member == sponsor:
            break
    else:
        raise SponsorNotConcerned(f"sponsor {sponsor!r} is not the member of any account that the transaction acts for")
    # One signer meets at least one need of some rule, or the policy would not be met.
    if len(signers) > 1:
        _refuse_unneeded(signers, met)


def require_authority(state: Overlay, messages: Sequence[Message], keys: frozenset[PublicKey]) -> None:
    """Refuse unless `keys` meet the policy of every account that the messages act for, as state stands.

    Raises:
        NoAccountClaimed, AccountUnknown, AccountFrozen, MemberUnknown, MemberSuspended, NotAuthorised: as `authorise`.
    """
    for message in messages:
        _met(state, message, keys)


def require_account(state: Overlay, address: bytes) -> Account:
    """Return the account.

    Raises:
        AccountUnknown: not open.
    """
    account = ACCOUNTS.get(state, address)
    if account is None:
        raise AccountUnknown(f"no account is open at {to_text(address)}")
    return account


def check_policy(policy: Policy) -> None:
    """Refuse a policy that could not be met, is ambiguous or is too large.

    Raises:
        MalformedPolicy: naming what is wrong.
        MalformedKey, UnknownScheme: a key that its scheme refuses.
    """
    data = encode(policy)
    if len(data) > MAX_POLICY_BYTES:
        raise MalformedPolicy(f"policy of {len(data)} bytes; at most {MAX_POLICY_BYTES}")
    try:
        _POLICY.decode(data)
    except CoreError as error:
        raise MalformedPolicy(error.message) from None
    order = [(entry.key.scheme, entry.key.data) for entry in policy.keys]
    if any(left >= right for left, right in pairwise(order)):
        raise MalformedPolicy("policy keys must be sorted by scheme and bytes, each key once and so in one role")
    totals: dict[str, int] = {}
    for entry in policy.keys:
        _check_role(entry.role)
        check_key(entry.key)
        totals[entry.role] = totals.get(entry.role, 0) + entry.weight
    for place, rule in enumerate(policy.rules):
        _check_rule(place, rule, totals)


def single_key_policy(key: PublicKey) -> Policy:
    """Return the policy by which one key, as owner, may do everything."""
    return Policy((PolicyKey(key, 1, "owner"),), (PolicyRule(("*",), None, None, (RoleThreshold("owner", 1),)),))


def policy_keys(policy: Policy, signers: frozenset[PublicKey]) -> tuple[PublicKey, ...]:
    """Return those of the signers that stand in the policy, in its order."""
    return tuple(entry.key for entry in policy.keys if entry.key in signers)


def _met(state: Overlay, message: Message, signers: frozenset[PublicKey]) -> list[Met]:
    """Return each claimed account with the rule that decided."""
    claims = message.claims()
    kinds = _kinds(type(message))
    if not claims:
        raise NoAccountClaimed(f"{kinds[0]} acts for no account; name at least one")
    met: list[Met] = []
    for claim in claims:
        account = ACCOUNTS.get(state, claim.account)
        if account is None:
            raise AccountUnknown(f"{kinds[0]} acts for {to_text(claim.account)}, where no account is open")
        if account.frozen_by is not None:
            raise AccountFrozen(f"account {to_text(claim.account)} is frozen and may not act until it is released")
        require_active(state, account.member)
        rule = _deciding_rule(account.policy, kinds, claim)
        if rule is None and not isinstance(message, Contribution):
            raise NotAuthorised(f"no rule of account {to_text(claim.account)} allows {kinds[0]} of {_describe(claim)}")
        _weigh(account.policy, rule, kinds[0], claim, signers)
        met.append((account, rule))
    return met


def _deciding_rule(policy: Policy, kinds: tuple[str, ...], claim: Claim) -> PolicyRule | None:
    for rule in policy.rules:
        if rule.asset is not None and rule.asset != claim.asset:
            continue
        limit = rule.up_to_minor
        if limit is not None and (claim.amount_minor is None or claim.amount_minor > limit):
            continue
        for kind in rule.kinds:
            if kind in kinds:
                return rule
    return None


def _weigh(policy: Policy, rule: PolicyRule | None, tag: str, claim: Claim, signers: frozenset[PublicKey]) -> None:
    weights: dict[str, int] = {}
    for entry in policy.keys:
        if entry.key in signers:
            weights[entry.role] = weights.get(entry.role, 0) + entry.weight
    if rule is None:
        if not weights:
            raise NotAuthorised(f"{tag} needs the signature of a key of account {to_text(claim.account)}")
        return
    for need in rule.needs:
        if weights.get(need.role, 0) < need.weight:
            raise NotAuthorised(
                f"{tag} of {_describe(claim)} for account {to_text(claim.account)} needs weight {need.weight} of role "
                f"{need.role!r}; the signatures weigh {weights.get(need.role, 0)}"
            )


def _refuse_unneeded(signers: frozenset[PublicKey], met: list[Met]) -> None:
    needed: set[PublicKey] = set()
    for account, rule in met:
        roles = None if rule is None else [need.role for need in rule.needs]
        needed.update(entry.key for entry in account.policy.keys if roles is None or entry.role in roles)
    if not signers <= needed:
        raise SignatureNotNeeded(
            f"{len(signers - needed)} of {len(signers)} signatures are by keys that no policy asks for; leave them out"
        )


@cache
def _kinds(message_type: type[Message]) -> tuple[str, ...]:
    """Return what a rule may call this message: its tag first; for contributions, only that."""
    tag = message_type.__struct_config__.tag
    assert isinstance(tag, str), f"{message_type.__name__} has no tag"
    if issubclass(message_type, Contribution):
        return (tag,)
    return tag, tag.partition(".")[0] + ".*", "*"


def _describe(claim: Claim) -> str:
    if claim.amount_minor is None:
        return claim.asset or "no amount"
    return f"{claim.amount_minor} minor units of {claim.asset}"


def _check_role(role: str) -> None:
    if _ROLE.fullmatch(role) is None:
        raise MalformedPolicy(f"role {role!r}; small letters, digits and hyphens, a letter first")


def _check_rule(place: int, rule: PolicyRule, totals: dict[str, int]) -> None:
    for kind in rule.kinds:
        if _KIND.fullmatch(kind) is None:
            raise MalformedPolicy(f"rule {place} names {kind!r}; a kind is '*', 'module.*' or 'module.Message'")
    if rule.up_to_minor is not None and rule.asset is None:
        raise MalformedPolicy(f"rule {place} limits an amount and so must name the asset: scales differ")
    if len(set(rule.kinds)) != len(rule.kinds):
        raise MalformedPolicy(f"rule {place} names a kind of message twice")
    roles = [need.role for need in rule.needs]
    if len(set(roles)) != len(roles):
        raise MalformedPolicy(f"rule {place} names a role twice")
    for need in rule.needs:
        if totals.get(need.role, 0) < need.weight:
            raise MalformedPolicy(
                f"rule {place} needs weight {need.weight} of role {need.role!r}; "
                f"the policy's keys have {totals.get(need.role, 0)}"
            )
