"""The plain model of the ledger: dicts of immutable values, rules written anew from the documents, numbers spelt out.

It shares with the code under test the shapes of messages and records, and nothing that decides. `Refusal` carries the
codespace and permanent number as literals, so that a renumbered error is found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from feiqian.core.encoding import encode
from feiqian.core.signatures import PublicKey
from feiqian.ledger.approvals import ExpirePending
from feiqian.ledger.context import Message, Trigger
from feiqian.ledger.holds import ExpireHold
from feiqian.ledger.records import Asset, Policy
from feiqian.testing.simulation import reference

MAX_MINOR = 2**62
DAY_MS = 24 * 60 * 60 * 1000
MAX_OPEN_HOLDS = 1_000

Claims = tuple[tuple[bytes, str | None, int | None], ...]
Legs = Sequence[tuple[bytes, str, int]]


class Refusal(Exception):
    """What the model says the ledger must refuse with."""

    def __init__(self, codespace: str, number: int) -> None:
        super().__init__(f"{codespace} {number}")
        self.codespace = codespace
        self.number = number


class MemberFacts(NamedTuple):
    """A member as the model keeps it; the fields of its identity in their order."""

    identity: tuple[Any, ...]
    roles: tuple[str, ...]
    is_suspended: bool


class AccountFacts(NamedTuple):
    """An account as the model keeps it."""

    member: str
    policy: Policy
    frozen_by: str | None


class BalanceFacts(NamedTuple):
    """A balance as the model keeps it."""

    posted: int = 0
    held: int = 0
    limit: int = 0
    is_frozen: bool = False
    is_listed: bool = False


class HoldFacts(NamedTuple):
    """A hold as the model keeps it; `trigger` is (due, sequence)."""

    account: bytes
    beneficiary: bytes | None
    asset: str
    amount: int
    controller: str
    reference: bytes
    expires_at_ms: int
    trigger: tuple[int, int]


class PendingFacts(NamedTuple):
    """A pending approval as the model keeps it."""

    account: bytes
    messages: tuple[bytes, ...]
    accounts: tuple[bytes, ...]
    keys: tuple[PublicKey, ...]
    expires_at_ms: int
    trigger: tuple[int, int]


class ValidatorFacts(NamedTuple):
    """A validator as the model keeps it, under its key."""

    member: str
    name: str
    power: int


class UsageFacts(NamedTuple):
    """What a sponsor used."""

    height: int
    block_bytes: int
    block_work: int
    day: int
    day_bytes: int
    day_work: int


class Model:
    """The whole ledger in dicts. Values never change in place, so copies of the dicts are a snapshot.

    `powers_at_start` are those of the validators when the present block began.

    `own` holds the modules' tables by name. Indexing by `model.own["payments.agents"]` makes an empty one.
    """

    def __init__(self) -> None:
        self.members: dict[str, MemberFacts] = {}
        self.accounts: dict[bytes, AccountFacts] = {}
        self.administrations: dict[str, bytes] = {}
        self.assets: dict[str, Asset] = {}
        self.balances: dict[tuple[bytes, str], BalanceFacts] = {}
        self.outflows: dict[tuple[bytes, str], tuple[int, int]] = {}
        self.holds: dict[bytes, HoldFacts] = {}
        self.pending: dict[bytes, PendingFacts] = {}
        self.triggers: dict[tuple[int, int], Trigger] = {}
        self.counters: dict[str, int] = {}
        self.parameters: dict[str, int] = {}
        self.usage: dict[str, UsageFacts] = {}
        self.upgrade: dict[str, int] = {}
        self.validators: dict[bytes, ValidatorFacts] = {}
        self.powers_at_start: dict[bytes, int] = {}
        self.nodes: dict[bytes, tuple[str, str]] = {}
        self.own: dict[str, dict[Any, Any]] = {}

    def table(self, name: str) -> dict[Any, Any]:
        """Return a module's table by name."""
        return self.own.setdefault(name, {})

    def copy(self) -> "Model":
        """Return a snapshot."""
        made = Model()
        made.restore(self)
        return made

    def restore(self, other: "Model") -> None:
        """Take over what a snapshot holds."""
        for name, value in vars(other).items():
            if name != "own":
                setattr(self, name, dict(value))
        self.own = {name: dict(value) for name, value in other.own.items()}

    def balance(self, account: bytes, asset: str) -> BalanceFacts:
        """Return a balance, the empty one where there is none."""
        return self.balances.get((account, asset), BalanceFacts())

    def free(self, account: bytes, asset: str) -> int:
        """Return what may still leave an account: posted − held + limit."""
        balance = self.balance(account, asset)
        return balance.posted - balance.held + balance.limit

    def set_balance(self, account: bytes, asset: str, **changes: Any) -> None:
        """Change some fields of a balance."""
        self.balances[account, asset] = self.balance(account, asset)._replace(**changes)


MEANINGS: dict[bytes, Message | Refusal] = {}
"""What each proposed message's bytes decode to, or are refused with: written when they are made, never by decoding."""


@dataclass(frozen=True)
class Rule:
    """How one message takes part: `draw` makes a random one, `claims` says who must sign, `apply` what it does.

    `apply` changes the model or raises `Refusal`. `is_contribution`: any key of the account suffices.
    """

    draw: Callable[[Any], Message]
    claims: Callable[[Any], Claims]
    apply: Callable[["Run", Any], None]
    is_contribution: bool = False


@dataclass
class Run:
    """One run of a transaction, trigger or approved proposal on the model."""

    model: Model
    rules: Mapping[type[Message], Rule]
    time_ms: int
    height: int
    origin: bytes
    signers: frozenset[PublicKey]
    ids_made: int = 0

    def new_id(self) -> bytes:
        """Return the next id that this run makes."""
        self.ids_made += 1
        return reference.object_id(self.origin, self.ids_made)

    def schedule(self, due_ms: int, trigger: Trigger) -> tuple[int, int]:
        """Plan a trigger; it must be ahead."""
        refuse(not self.time_ms < due_ms <= 2**53, "ledger", 36)
        sequence = self.model.counters.get("trigger", 0)
        self.model.counters["trigger"] = sequence + 1
        self.model.triggers[due_ms, sequence] = trigger
        return due_ms, sequence

    def atomically(self, messages: Sequence[Message]) -> Refusal | None:
        """Run messages together or not at all; return what refused them."""
        before = self.model.copy()
        try:
            for message in messages:
                self.rules[type(message)].apply(self, message)
        except Refusal as refusal:
            self.model.restore(before)
            return refusal
        return None


def refuse(condition: bool, codespace: str, number: int) -> None:
    """Refuse where the condition holds."""
    if condition:
        raise Refusal(codespace, number)


# --- members, accounts, policies ---


def active_member(model: Model, member: str) -> MemberFacts:
    """Return a member that may act."""
    refuse(member not in model.members, "ledger", 1)
    facts = model.members[member]
    refuse(facts.is_suspended, "ledger", 3)
    return facts


def account_of(model: Model, address: bytes) -> AccountFacts:
    """Return an open account."""
    refuse(address not in model.accounts, "ledger", 5)
    return model.accounts[address]


def asset_of(model: Model, code: str) -> Asset:
    """Return a defined asset."""
    refuse(code not in model.assets, "ledger", 13)
    return model.assets[code]


BAD_KEYS: dict[PublicKey, tuple[str, int]] = {
    # Points of small order (libsodium's list), a y that is not reduced; P-256 with wrong prefixes; no point of SM2.
    PublicKey(1, bytes.fromhex("00" * 32)): ("core", 5),
    PublicKey(1, bytes.fromhex("01" + "00" * 31)): ("core", 5),
    PublicKey(1, bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")): ("core", 5),
    PublicKey(1, bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")): ("core", 5),
    PublicKey(1, bytes.fromhex("ec" + "ff" * 30 + "7f")): ("core", 5),
    PublicKey(1, (2**255 - 19 + 3).to_bytes(32, "little")): ("core", 5),
    PublicKey(2, bytes([5]) + bytes(32)): ("core", 5),
    PublicKey(2, bytes([5]) + b"\x01" * 32): ("core", 5),
    PublicKey(2, bytes(32)): ("core", 5),
    PublicKey(3, bytes(64)): ("core", 5),
    PublicKey(9, bytes(32)): ("core", 6),
}
"""Keys that no policy may name, and the refusal."""


def check_policy(policy: Policy) -> None:
    """Refuse a policy that is out of order, names a bad key or could never be met."""
    order = [(entry.key.scheme, entry.key.data) for entry in policy.keys]
    refuse(order != sorted(set(order)), "ledger", 8)
    for entry in policy.keys:
        if entry.key in BAD_KEYS:
            raise Refusal(*BAD_KEYS[entry.key])
    for rule in policy.rules:
        roles = [need.role for need in rule.needs]
        refuse(rule.up_to_minor is not None and rule.asset is None, "ledger", 8)
        refuse(len(set(rule.kinds)) < len(rule.kinds) or len(set(roles)) < len(roles), "ledger", 8)
        for need in rule.needs:
            weight = sum(entry.weight for entry in policy.keys if entry.role == need.role)
            refuse(weight < need.weight, "ledger", 8)


def open_account(model: Model, member: str, policy: Policy, salt: bytes) -> bytes:
    """Open an account and return its address."""
    active_member(model, member)
    check_policy(policy)
    address = reference.address(member, policy, salt)
    refuse(address in model.accounts, "ledger", 6)
    model.accounts[address] = AccountFacts(member, policy, None)
    model.administrations.setdefault(member, address)
    return address


def administered_by(model: Model, address: bytes) -> str:
    """Return the member for which the account at `address` speaks."""
    member = account_of(model, address).member
    refuse(model.administrations[member] != address, "ledger", 50)
    return member


def check_administration(model: Model, member: str, address: bytes) -> None:
    """Refuse an account that cannot take over speaking for the member."""
    account = account_of(model, address)
    refuse(account.member != member, "ledger", 51)
    refuse(account.frozen_by is not None, "ledger", 7)
    refuse(model.administrations[member] == address, "ledger", 49)


# --- authority ---


def deciding_roles(policy: Policy, tag: str, is_contribution: bool, asset: str | None, amount: int | None):
    """Return {role: weight needed} of the first rule that speaks of this, None where no rule does."""
    for rule in policy.rules:
        names = [tag] if is_contribution else [tag, tag.split(".", maxsplit=1)[0] + ".*", "*"]
        is_of_kind = any(kind in names for kind in rule.kinds)
        is_of_asset = rule.asset is None or rule.asset == asset
        is_small = rule.up_to_minor is None or (amount is not None and amount <= rule.up_to_minor)
        if is_of_kind and is_of_asset and is_small:
            return {need.role: need.weight for need in rule.needs}
    return None


def check_authority(
    model: Model, rules: Mapping[type[Message], Rule], messages: Sequence[Message], signers: frozenset[PublicKey]
) -> tuple[set[str], set[PublicKey]]:
    """Refuse what the signers may not do; return the members acted for and the keys that somebody asked for."""
    members: set[str] = set()
    wanted: set[PublicKey] = set()
    for message in messages:
        rule = rules[type(message)]
        tag = str(type(message).__struct_config__.tag)
        for address, asset, amount in rule.claims(message):
            account = account_of(model, address)
            refuse(account.frozen_by is not None, "ledger", 7)
            active_member(model, account.member)
            needed = deciding_roles(account.policy, tag, rule.is_contribution, asset, amount)
            own = [entry for entry in account.policy.keys if entry.key in signers]
            if needed is None:
                refuse(not rule.is_contribution or not own, "ledger", 10)
                wanted |= {entry.key for entry in account.policy.keys}
            else:
                for role, weight in needed.items():
                    refuse(sum(entry.weight for entry in own if entry.role == role) < weight, "ledger", 10)
                wanted |= {entry.key for entry in account.policy.keys if entry.role in needed}
            members.add(account.member)
    return members, wanted


# --- movements ---


def post(run: Run, legs: Legs, *, forced_by: bytes | None = None, freed: tuple[bytes, str, int] | None = None) -> None:
    """Move value. `freed`: (account, asset, amount) of held money that is let go in the same stroke."""
    model = run.model
    refuse(not 2 <= len(legs) <= 4000, "ledger", 16)
    refuse(any(amount == 0 or abs(amount) > MAX_MINOR for _, _, amount in legs), "ledger", 16)
    codes = list(dict.fromkeys(asset for _, asset, _ in legs))
    nets = {code: _nets(legs, code) for code in codes}
    for code in codes:
        asset = asset_of(model, code)
        refuse(sum(nets[code].values()) != 0, "ledger", 17)
        refuse(forced_by is not None and asset.controller != forced_by, "ledger", 26)
    outflows = {} if forced_by is not None else _limited(run, legs, codes, nets)
    moved = [(code, account, net) for code in codes for account, net in nets[code].items()]
    after: dict[tuple[bytes, str], BalanceFacts] = {}
    for code, account, net in moved:
        balance = model.balance(account, code)
        refuse(account not in model.accounts, "ledger", 5)
        refuse(model.accounts[account].frozen_by is not None and forced_by is None, "ledger", 7)
        refuse(balance.is_frozen and forced_by is None, "ledger", 22)
        if net == 0:
            continue
        is_let_go = forced_by is not None and net < 0
        refuse(model.assets[code].is_allow_listed and not balance.is_listed and not is_let_go, "ledger", 23)
        held = balance.held - (freed[2] if freed is not None and freed[:2] == (account, code) else 0)
        is_issuing = account == model.assets[code].issuance_account
        is_short = net < 0 and balance.posted + net - held + balance.limit < 0
        refuse(is_short, "ledger", 21 if is_issuing else 19)
        refuse(net > 0 and balance.posted + net > MAX_MINOR, "ledger", 20)
        after[account, code] = balance._replace(posted=balance.posted + net, held=held)
    refuse(not after, "ledger", 18)
    model.balances.update(after)
    model.outflows.update(outflows)


def _nets(legs: Legs, code: str) -> dict[bytes, int]:
    nets: dict[bytes, int] = {}
    for account, asset, amount in legs:
        if asset == code:
            nets[account] = nets.get(account, 0) + amount
    return nets


def _limited(run: Run, legs: Legs, codes: list[str], nets: dict[str, dict[bytes, int]]):
    """Refuse what is above an asset's limits; return what each payer will have sent today."""
    model = run.model
    for account, code, amount in legs:
        asset = model.assets[code]
        is_issuing = nets[code].get(asset.issuance_account, 0) < 0
        if asset.transfer_limit_minor is not None and not is_issuing and account != asset.issuance_account:
            refuse(amount > asset.transfer_limit_minor, "ledger", 24)
    sent: dict[tuple[bytes, str], tuple[int, int]] = {}
    today = run.time_ms // DAY_MS
    for code in codes:
        asset = model.assets[code]
        if asset.daily_limit_minor is None:
            continue
        for account, net in nets[code].items():
            if net < 0 and account != asset.issuance_account:
                day, amount = model.outflows.get((account, code), (today, 0))
                total = (amount if day == today else 0) - net
                refuse(total > asset.daily_limit_minor, "ledger", 25)
                sent[account, code] = (today, total)
    return sent


def place_hold(
    run: Run,
    account: bytes,
    beneficiary: bytes | None,
    asset: str,
    amount: int,
    controller: str,
    reference_: bytes,
    expires_at_ms: int,
) -> bytes:
    """Reserve part of what is free and return the hold's id."""
    model = run.model
    refuse(not run.time_ms < expires_at_ms <= 2**53, "ledger", 36)
    asset_of(model, asset)
    refuse(account_of(model, account).frozen_by is not None, "ledger", 7)
    if beneficiary is not None:
        account_of(model, beneficiary)
    balance = model.balance(account, asset)
    refuse(balance.is_frozen, "ledger", 22)
    refuse(open_holds(model).get((account, asset), 0) >= MAX_OPEN_HOLDS, "ledger", 52)
    refuse(balance.held + amount > MAX_MINOR, "ledger", 20)
    refuse(amount > model.free(account, asset), "ledger", 19)
    hold = run.new_id()
    trigger = run.schedule(expires_at_ms, ExpireHold(hold))
    model.set_balance(account, asset, held=balance.held + amount)
    model.holds[hold] = HoldFacts(account, beneficiary, asset, amount, controller, reference_, expires_at_ms, trigger)
    return hold


def open_holds(model: Model) -> dict[tuple[bytes, str], int]:
    """Count the open holds of each (account, asset)."""
    counts: dict[tuple[bytes, str], int] = {}
    for facts in model.holds.values():
        counts[facts.account, facts.asset] = counts.get((facts.account, facts.asset), 0) + 1
    return counts


def hold_of(model: Model, hold: bytes, controller: str) -> HoldFacts:
    """Return an open hold of a module."""
    refuse(hold not in model.holds, "ledger", 32)
    refuse(model.holds[hold].controller != controller, "ledger", 35)
    return model.holds[hold]


def post_hold(run: Run, hold: bytes, payee: bytes, amount: int, *, is_final: bool) -> None:
    """Pay out of a hold; a final payment, or one of all that is left, ends it."""
    facts = run.model.holds[hold]
    refuse(facts.expires_at_ms <= run.time_ms, "ledger", 33)
    refuse(not 1 <= amount <= facts.amount, "ledger", 34)
    left = 0 if is_final else facts.amount - amount
    legs = [(facts.account, facts.asset, -amount), (payee, facts.asset, amount)]
    post(run, legs, freed=(facts.account, facts.asset, facts.amount - left))
    if left:
        run.model.holds[hold] = facts._replace(amount=left)
    else:
        del run.model.holds[hold]
        del run.model.triggers[facts.trigger]


def void_hold(run: Run, hold: bytes) -> None:
    """End a hold and free what it holds."""
    facts = run.model.holds.pop(hold)
    run.model.triggers.pop(facts.trigger, None)
    held = run.model.balance(facts.account, facts.asset).held
    run.model.set_balance(facts.account, facts.asset, held=held - facts.amount)


# --- approvals ---


def parties_of(run: Run, messages: Sequence[Message]) -> tuple[bytes, ...]:
    """Return the accounts that proposed messages act for."""
    accounts: set[bytes] = set()
    for message in messages:
        rule = run.rules[type(message)]
        refuse(rule.is_contribution, "ledger", 46)
        for address, _, _ in rule.claims(message):
            account_of(run.model, address)
            accounts.add(address)
    refuse(len(accounts) > 32, "ledger", 47)
    return tuple(sorted(accounts))


def own_keys(run: Run, account: bytes) -> tuple[PublicKey, ...]:
    """Return the signers that stand in an account's policy now."""
    keys = tuple(entry.key for entry in account_of(run.model, account).policy.keys if entry.key in run.signers)
    refuse(not keys, "ledger", 10)
    return keys


def decoded(run: Run, messages: Sequence[bytes]) -> list[Message]:
    """Return what drawn bytes mean, or raise what they must be refused with."""
    found: list[Message] = []
    for data in messages:
        meaning = MEANINGS[data]
        if isinstance(meaning, Refusal):
            raise Refusal(meaning.codespace, meaning.number)
        found.append(meaning)
    return found


def is_met(run: Run, facts: PendingFacts) -> bool:
    """Say whether the keys collected so far may do what is proposed."""
    try:
        check_authority(run.model, run.rules, decoded(run, facts.messages), frozenset(facts.keys))
    except Refusal as refusal:
        if (refusal.codespace, refusal.number) in (("ledger", 10), ("ledger", 7), ("ledger", 3)):
            return False
        raise
    return True


def close_pending(run: Run, pending: bytes) -> PendingFacts:
    """End a pending approval and its trigger."""
    facts = run.model.pending.pop(pending)
    run.model.triggers.pop(facts.trigger, None)
    return facts


def run_if_met(run: Run, pending: bytes) -> None:
    """Run what is proposed, once, if its keys suffice; a refusal ends it and leaves nothing else."""
    facts = run.model.pending[pending]
    if not is_met(run, facts):
        return
    close_pending(run, pending)
    nested = Run(run.model, run.rules, run.time_ms, run.height, origin=pending, signers=frozenset(facts.keys))
    nested.atomically(decoded(run, facts.messages))


# --- triggers of the ledger itself ---


def _expire_hold(run: Run, trigger: ExpireHold) -> None:
    void_hold(run, trigger.hold)


def _expire_pending(run: Run, trigger: ExpirePending) -> None:
    close_pending(run, trigger.pending)


LEDGER_TRIGGERS: Mapping[type[Trigger], Callable[[Run, Any], None]] = {
    ExpireHold: _expire_hold,
    ExpirePending: _expire_pending,
}


# --- metering ---


def charge(
    model: Model,
    sponsor: str,
    size_bytes: int,
    work: int,
    height: int,
    time_ms: int,
    limits: Mapping[str, int] | None = None,
) -> None:
    """Count bytes and work against a sponsor; refuse beyond its limits where these are given."""
    day = time_ms // DAY_MS
    before = model.usage.get(sponsor, UsageFacts(height, 0, 0, day, 0, 0))
    block_bytes, block_work = before[1:3] if before.height == height else (0, 0)
    day_bytes, day_work = before[4:6] if before.day == day else (0, 0)
    used = UsageFacts(height, block_bytes + size_bytes, block_work + work, day, day_bytes + size_bytes, day_work + work)
    if limits is not None:
        refuse(used.block_bytes > limits["sponsor_block_bytes"], "ledger", 41)
        refuse(used.block_work > limits["sponsor_block_work"], "ledger", 41)
        refuse(used.day_bytes > limits["sponsor_day_bytes"], "ledger", 41)
        refuse(used.day_work > limits["sponsor_day_work"], "ledger", 41)
    model.usage[sponsor] = used


def wanted_signers(model: Model, rules: Mapping[type[Message], Rule], messages: Sequence[Message]) -> list[PublicKey]:
    """Return keys that would meet every policy concerned, as far as any can: what an honest sender signs with."""
    chosen: dict[PublicKey, None] = {}
    for message in messages:
        rule = rules[type(message)]
        tag = str(type(message).__struct_config__.tag)
        for address, asset, amount in rule.claims(message):
            if address in model.accounts:
                policy = model.accounts[address].policy
                needed = deciding_roles(policy, tag, rule.is_contribution, asset, amount)
                chosen.update(dict.fromkeys(_enough(policy, needed)))
    return list(chosen)


def _enough(policy: Policy, needed: dict[str, int] | None) -> Iterator[PublicKey]:
    if needed is None:
        yield policy.keys[0].key
        return
    for role, weight in needed.items():
        for entry in policy.keys:
            if entry.role == role and weight > 0:
                yield entry.key
                weight -= entry.weight


def encoded(message: Message) -> bytes:
    """Return a message as proposals carry it, and remember what these bytes mean."""
    data = encode(message)
    MEANINGS[data] = message
    return data
