"""Every record that the ledger keeps, and what messages and events share with them; no rules here."""

from typing import Annotated

from msgspec import Meta

from feiqian.core.addresses import Address
from feiqian.core.encoding import (
    AmountMinor,
    AssetId,
    DeltaMinor,
    Hash32,
    Height,
    MemberId,
    PositiveMinor,
    Record,
    Scale,
    ShortText,
    Text,
    TimeMs,
    Uint32,
    Uint63,
)
from feiqian.core.signatures import PublicKey

DAY_MS = 86_400_000
MAX_POLICY_KEYS = 32
MAX_POLICY_RULES = 32
MAX_RULE_KINDS = 32
MAX_PROPOSAL_MESSAGES = 16

Role = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"\A[a-z][a-z0-9-]*\Z")]
# Accounts are read twice a transfer, and msgspec takes 1 µs for each pattern: five in one account cost ten times what
# the rest of it does. So the form of what stands in a policy is checked once, by `check_policy`, when it is made.
PolicyRole = Annotated[str, Meta(min_length=1, max_length=32)]
Kind = Annotated[str, Meta(min_length=1, max_length=64)]
AdmittedMember = Annotated[str, Meta(min_length=2, max_length=32)]
"""The id of a member, which was checked when the member was admitted."""

Weight = Annotated[int, Meta(ge=1, le=2**16 - 1)]
BY_MEMBER = "member"
BY_GOVERNANCE = "governance"
Freezer = Annotated[str, Meta(pattern=r"\A(member|governance)\Z")]
"""Who froze an account and alone may release it: its own member's administration account, or a vote."""
# Identifier forms: ISO 17442 (LEI), GB 32100-2015 (USCC, which leaves out I O S V Z), ISO 9362:2022 (BIC).
Lei = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{18}[0-9]{2}\Z")]
Uscc = Annotated[str, Meta(pattern=r"\A[0-9A-HJ-NP-RTUW-Y]{18}\Z")]
Bic = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?\Z")]


class Member(Record):
    """An institution admitted by governance; the key is its id. `vault_key` is its X25519 key for private documents.

    Roles in use: "bank", "company", "regulator", "operator", "issuer", "governor".
    """

    legal_name: Annotated[Text, Meta(min_length=1)]
    lei: Lei | None
    uscc: Uscc | None
    bic: Bic | None
    roles: Annotated[tuple[Role, ...], Meta(max_length=16)]
    vault_key: Hash32 | None
    is_suspended: bool


class PolicyKey(Record):
    """A key with its weight in its one role ("maker", "checker", "owner", …)."""

    key: PublicKey
    weight: Weight
    role: PolicyRole


class RoleThreshold(Record):
    """Signatures of this role must weigh at least so much together."""

    role: PolicyRole
    weight: Annotated[int, Meta(ge=1, le=2**32 - 1)]


class PolicyRule(Record):
    """Which messages it decides on, and the roles that must sign them, each of `needs`.

    `kinds` are message tags, `"payments.*"` or `"*"`. With `up_to_minor` it decides only on claims of that asset and
    at most that amount: a claim that moves nothing is not one of them.
    """

    kinds: Annotated[tuple[Kind, ...], Meta(min_length=1, max_length=MAX_RULE_KINDS)]
    asset: AssetId | None
    up_to_minor: AmountMinor | None
    needs: Annotated[tuple[RoleThreshold, ...], Meta(min_length=1, max_length=8)]


class Policy(Record):
    """Who may act for an account. Keys sorted and distinct; the first rule that matches decides, none refuses."""

    keys: Annotated[tuple[PolicyKey, ...], Meta(min_length=1, max_length=MAX_POLICY_KEYS)]
    rules: Annotated[tuple[PolicyRule, ...], Meta(min_length=1, max_length=MAX_POLICY_RULES)]


class Account(Record):
    """An account; the key is its address. `frozen_by` is None while it is not frozen."""

    member: AdmittedMember
    policy: Policy
    frozen_by: Freezer | None

    @property
    def is_frozen(self) -> bool:
        """Say whether the account may neither act nor send nor receive."""
        return self.frozen_by is not None


class Administration(Record):
    """The one account that speaks for its member as a whole; the key is the member's id."""

    account: Address


class Asset(Record):
    """What balances count; the key is its code.

    Supply is the issuance account's negative balance, at most `supply_cap_minor`; it is net of the credit that holders
    have drawn, and so below zero where they redeemed more on credit than was issued. `controller` is the one account
    that may force movements and freeze holders. Limits of None do not bind.
    """

    scale: Scale
    issuer: MemberId
    issuance_account: Address
    supply_cap_minor: PositiveMinor
    is_freezable: bool
    is_allow_listed: bool
    transfer_limit_minor: PositiveMinor | None
    daily_limit_minor: PositiveMinor | None
    controller: Address | None
    name: ShortText
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")] | None


class Balance(Record):
    """One account in one asset; the key is address ‖ code. available = posted − held ≥ −limit."""

    posted_minor: DeltaMinor
    held_minor: AmountMinor
    limit_minor: AmountMinor
    is_frozen: bool
    is_listed: bool


class Leg(Record):
    """One posting: a credit is > 0, a debit < 0."""

    account: Address
    asset: AssetId
    amount_minor: DeltaMinor


class DayOutflow(Record):
    """What left an account in an asset on one UTC day; the key is the balance's."""

    day: Uint32
    amount_minor: AmountMinor


class Hold(Record):
    """A reservation; the key is its id. `amount_minor` is what remains of it.

    `beneficiary` is the account that it is for, where it is for one; `controller` names the module that may post or
    void it, `reference` is that module's own, `expiry_key` the trigger.
    """

    account: Address
    beneficiary: Address | None
    asset: AssetId
    amount_minor: PositiveMinor
    controller: Annotated[str, Meta(min_length=1, max_length=32)]
    reference: Annotated[bytes, Meta(max_length=512)]
    expires_at_ms: TimeMs
    expiry_key: bytes


class HoldCount(Record):
    """How many holds are open on an account in an asset; the key is the balance's. Absent where none is."""

    open: Uint32


class Pending(Record):
    """Messages that wait for more keys; the key is its id.

    `account` proposed; `accounts` are those the messages act for, sorted; `keys` proposed or approved, sorted.
    """

    account: Address
    messages: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_PROPOSAL_MESSAGES)]
    accounts: tuple[Address, ...]
    keys: tuple[PublicKey, ...]
    expires_at_ms: TimeMs
    expiry_key: bytes


class ScheduledTrigger(Record):
    """A trigger in waiting: its tag and its canonical bytes."""

    tag: Annotated[str, Meta(min_length=1, max_length=64)]
    data: bytes


class Upgrade(Record):
    """A change of the rules that members agreed on: from `height` on, `app_version` runs."""

    height: Height
    app_version: Uint32


NodeName = Annotated[str, Meta(min_length=1, max_length=64)]
Power = Annotated[int, Meta(ge=1, le=2**53)]


class ValidatorRecord(Record):
    """A validator, by whom and under which name it is run; the key is its Ed25519 key."""

    member: MemberId
    name: NodeName
    power: Power


class NodeRecord(Record):
    """A node that the network's nodes let in as a peer; the key is its Ed25519 key."""

    member: MemberId
    name: NodeName


class Sequence(Record):
    """A counter that never goes back."""

    next: Uint63


class Usage(Record):
    """What a sponsor used in its last block and on that block's UTC day; the key is its member id."""

    height: Height
    block_bytes: Uint63
    block_work: Uint63
    day: Uint32
    day_bytes: Uint63
    day_work: Uint63


class Parameters(Record):
    """The consensus parameters, changed by governance alone."""

    max_block_bytes: Annotated[int, Meta(ge=2**18, le=64 * 2**20)] = 4 * 2**20
    max_block_work: Annotated[int, Meta(ge=1_000_000, le=2**53)] = 10_000_000
    max_triggers_per_block: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    proof_window: Annotated[int, Meta(ge=600, le=2**40)] = 100_000
    replay_window_ms: Annotated[int, Meta(ge=1_000, le=600_000)] = 600_000
    sponsor_block_bytes: Annotated[int, Meta(ge=2**17, le=2**53)] = 4 * 2**20
    sponsor_block_work: Annotated[int, Meta(ge=500_000, le=2**53)] = 10_000_000
    sponsor_day_bytes: Annotated[int, Meta(ge=2**17, le=2**53)] = 2**40
    sponsor_day_work: Annotated[int, Meta(ge=500_000, le=2**53)] = 2**42
    max_approval_days: Annotated[int, Meta(ge=1, le=366)] = 30
    max_window_deletes: Annotated[int, Meta(ge=1, le=100_000)] = 100
    app_version: Annotated[int, Meta(ge=1, le=2**32 - 1)] = 1
