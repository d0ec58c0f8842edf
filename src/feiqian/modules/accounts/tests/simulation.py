"""How accounts takes part in the simulation: openings, policies, freezes, limits and pending approvals."""

from collections.abc import Mapping

from feiqian.ledger.approvals import ExpirePending
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.context import Message
from feiqian.ledger.records import Policy, PolicyKey, PolicyRule, RoleThreshold
from feiqian.modules.accounts.messages import (
    Approve,
    ChangePolicy,
    Open,
    Propose,
    SetAdministration,
    SetFrozen,
    SetLimit,
    Withdraw,
)
from feiqian.modules.assets.messages import Transfer
from feiqian.testing.simulation import Simulation
from feiqian.testing.simulation.consortium import KEYS
from feiqian.testing.simulation.model import (
    DAY_MS,
    MEANINGS,
    PendingFacts,
    Rule,
    Run,
    account_of,
    administered_by,
    asset_of,
    check_administration,
    check_policy,
    close_pending,
    decoded,
    encoded,
    is_met,
    open_account,
    own_keys,
    parties_of,
    refuse,
    run_if_met,
)
from feiqian.testing.simulation.picking import UNKNOWN_ID, Pick

MAX_PROPOSAL_BYTES = 8 * 1024


def by_account(message):
    """Every message here acts for its `account` and moves nothing."""
    return ((message.account, None, None),)


def opening(names: Mapping[str, bytes]) -> list[Message]:
    """Return two proposals that wait for another key."""
    board = names["mill-board"]
    paying = encoded(Transfer(board, names["shop"], "OIL", 5, b""))
    changing = encoded(ChangePolicy(board, single_key_policy(KEYS["mill-chief"].public)))
    return [Propose(board, (paying,), 1), Propose(board, (changing,), 2)]


# --- opening, policies, freezes, limits ---


def draw_open(pick: Pick) -> Open:
    salt = pick.integer(0, 3).to_bytes(8, "big")
    return Open(pick.named("mill", "shop", "north"), pick.policy(), salt)


def open_(run: Run, message: Open) -> None:
    open_account(run.model, administered_by(run.model, message.account), message.policy, message.salt)


def draw_change_policy(pick: Pick) -> ChangePolicy:
    account = pick.account()
    if pick.rarely(2) and account in pick.model.accounts:
        return ChangePolicy(account, pick.model.accounts[account].policy)
    return ChangePolicy(account, pick.policy())


def change_policy(run: Run, message: ChangePolicy) -> None:
    account = account_of(run.model, message.account)
    check_policy(message.policy)
    refuse(message.policy == account.policy, "ledger", 49)
    run.model.accounts[message.account] = account._replace(policy=message.policy)


def administration(pick: Pick, account: bytes) -> bytes:
    """Return the account that speaks for an account's member, rarely any other."""
    facts = pick.model.accounts.get(account)
    return pick.account() if facts is None or pick.rarely() else pick.model.administrations[facts.member]


def draw_set_administration(pick: Pick) -> SetAdministration:
    target = pick.account()
    return SetAdministration(administration(pick, target), target)


def set_administration(run: Run, message: SetAdministration) -> None:
    member = administered_by(run.model, message.account)
    check_administration(run.model, member, message.administration)
    run.model.administrations[member] = message.administration


def draw_set_frozen(pick: Pick) -> SetFrozen:
    frozen = sorted(at for at, facts in pick.model.accounts.items() if facts.frozen_by is not None)
    # Releasing is tried as often as freezing, or everything would soon stand still.
    target = pick.one(frozen) if frozen and pick.flag() else pick.account()
    return SetFrozen(administration(pick, target), target, (target not in frozen) != pick.rarely(), "")


def set_frozen(run: Run, message: SetFrozen) -> None:
    member = administered_by(run.model, message.account)
    target = account_of(run.model, message.target)
    refuse(target.member != member, "accounts", 1)
    refuse(target.frozen_by == "governance", "accounts", 2)
    refuse(message.target == message.account, "accounts", 3)
    by = "member" if message.is_frozen else None
    refuse(target.frozen_by == by, "ledger", 49)
    run.model.accounts[message.target] = target._replace(frozen_by=by)


def draw_set_limit(pick: Pick) -> SetLimit:
    asset, target = pick.asset(), pick.account()
    issuer = pick.model.assets[asset].issuance_account if asset in pick.model.assets else pick.account()
    drawing = [at for (at, code), facts in pick.model.balances.items() if code == asset and facts.posted < facts.held]
    target = pick.one((target, *sorted(at for at in drawing if at != issuer)))
    used = -pick.model.balance(target, asset).posted + pick.model.balance(target, asset).held
    limit = pick.one((0, 100, pick.integer(0, 2_000), max(0, used), max(0, used - 1), 2**62))
    return SetLimit(issuer if not pick.rarely() else pick.account(), target, asset, limit)


def claims_of_limit(message: SetLimit):
    return ((message.account, message.asset, message.limit_minor),)


def set_limit(run: Run, message: SetLimit) -> None:
    model = run.model
    asset = asset_of(model, message.asset)
    refuse(asset.issuance_account != message.account, "ledger", 27)
    account_of(model, message.target)
    refuse(message.target == asset.issuance_account, "ledger", 31)
    balance = model.balance(message.target, message.asset)
    refuse(message.limit_minor == balance.limit, "ledger", 49)
    refuse(balance.posted - balance.held < -message.limit_minor, "ledger", 30)
    model.set_balance(message.target, message.asset, limit=message.limit_minor)


# --- pending approvals ---


def draw_propose(pick: Pick) -> Propose:
    count = 1 if not pick.rarely(3) else pick.integer(2, 4)
    messages = tuple(pick.proposed() for _ in range(count))
    claimed = [MEANINGS[data] for data in messages]
    parties = [claim.account for message in claimed if hasattr(message, "claims") for claim in message.claims()]  # type: ignore[union-attr]
    account = pick.some([*parties, pick.names["mill-board"]], pick.names["mill"])
    if pick.rarely():
        messages = tuple([pick.proposed(Open(account, pick.policy(), bytes(16)))] * 16)
    return Propose(account, messages, pick.one((1, 2, 3, 0, 4)) if pick.rarely(4) else 1)


def propose(run: Run, message: Propose) -> None:
    model = run.model
    refuse(not 1 <= message.days <= model.parameters["max_approval_days"], "ledger", 47)
    refuse(sum(map(len, message.messages)) > MAX_PROPOSAL_BYTES, "ledger", 47)
    parties = parties_of(run, decoded(run, message.messages))
    refuse(message.account not in parties, "ledger", 44)
    keys = own_keys(run, message.account)
    pending = run.new_id()
    expires_at_ms = run.time_ms + message.days * DAY_MS
    trigger = run.schedule(expires_at_ms, ExpirePending(pending))
    model.pending[pending] = PendingFacts(message.account, message.messages, parties, keys, expires_at_ms, trigger)
    run_if_met(run, pending)


def draw_approve(pick: Pick) -> Approve:
    if not pick.model.pending or pick.rarely():
        return Approve(pick.account(), pick.some(sorted(pick.model.pending), UNKNOWN_ID))
    pending = pick.one(sorted(pick.model.pending))
    return Approve(pick.some(pick.model.pending[pending].accounts, pick.account()), pending)


def approve(run: Run, message: Approve) -> None:
    model = run.model
    refuse(message.pending not in model.pending, "ledger", 42)
    facts = model.pending[message.pending]
    refuse(facts.expires_at_ms <= run.time_ms, "ledger", 43)
    refuse(message.account not in facts.accounts, "ledger", 44)
    own = own_keys(run, message.account)
    keys = sorted({*facts.keys, *own}, key=lambda key: (key.scheme, key.data))
    refuse(len(keys) > 64, "ledger", 47)
    refuse(len(keys) == len(facts.keys) and not is_met(run, facts), "ledger", 45)
    model.pending[message.pending] = facts._replace(keys=tuple(keys))
    run_if_met(run, message.pending)


def draw_withdraw(pick: Pick) -> Withdraw:
    if not pick.model.pending or pick.rarely():
        return Withdraw(pick.account(), UNKNOWN_ID)
    pending = pick.one(sorted(pick.model.pending))
    facts = pick.model.pending[pending]
    return Withdraw(facts.account if not pick.rarely(3) else pick.one(facts.accounts), pending)


def withdraw(run: Run, message: Withdraw) -> None:
    refuse(message.pending not in run.model.pending, "ledger", 42)
    refuse(message.account != run.model.pending[message.pending].account, "ledger", 48)
    own_keys(run, message.account)
    close_pending(run, message.pending)


# --- golden blocks ---


def story(book) -> None:
    """A board's account is opened, gets other keys, is frozen; what one key may not do waits for another."""
    mill, board = book.names["mill"], book.names["mill-board"]
    new = single_key_policy(KEYS["spare"].public)
    book.block(
        book.done(Open(mill, new, bytes(8))),
        book.refused("ledger", 6, Open(mill, new, bytes(8))),
        book.refused("ledger", 49, ChangePolicy(mill, book.world.model.accounts[mill].policy)),
        book.done(SetFrozen(book.names["shop"], book.names["shop-2"], True, "a key was lost")),
        book.refused("accounts", 1, SetFrozen(mill, book.names["shop"], True, "")),
        book.done(SetAdministration(book.names["watch"], book.names["watch-2"])),
        book.refused("ledger", 50, SetAdministration(book.names["watch"], book.names["watch-2"])),
        book.refused("accounts", 3, SetFrozen(mill, mill, True, "")),
    )
    two = Policy(
        tuple(
            sorted(
                (PolicyKey(KEYS["mill"].public, 1, "owner"), PolicyKey(KEYS["spare"].public, 1, "owner")),
                key=lambda entry: (entry.key.scheme, entry.key.data),
            )
        ),
        (PolicyRule(("*",), None, None, (RoleThreshold("owner", 2),)),),
    )
    book.block(
        book.refused("ledger", 7, ChangePolicy(book.names["shop-2"], new), by=["shop"]),
        book.done(SetFrozen(book.names["shop"], book.names["shop-2"], False, "found")),
        book.done(SetAdministration(book.names["watch-2"], book.names["watch"])),
        book.done(SetLimit(book.names["north"], mill, "EUR.north", 500)),
        book.refused("ledger", 27, SetLimit(book.names["south"], mill, "EUR.north", 500)),
        book.done(ChangePolicy(mill, two)),
    )
    back = encoded(ChangePolicy(mill, single_key_policy(KEYS["mill"].public)))
    raised = encoded(Transfer(board, mill, "OIL", 5, b""))
    book.block(
        book.done(Propose(mill, (back,), 1), by=["mill"]),
        book.refused("ledger", 47, Propose(mill, (back,), 9), by=["mill"]),
        book.done(Propose(mill, (back, back), 2), by=["spare"]),
        book.refused("ledger", 46, Propose(mill, (encoded(Propose(mill, (back,), 1)),), 1), by=["mill"]),
        book.refused("ledger", 10, ChangePolicy(board, new), by=["mill-maker"]),
        book.done(Propose(board, (raised,), 1), by=["mill-maker"]),
    )
    pending = sorted(book.world.model.pending, key=lambda key: book.world.model.pending[key].trigger[1])
    book.block(
        book.refused("ledger", 45, Approve(mill, pending[0]), by=["mill"]),
        book.refused("ledger", 48, Withdraw(board, pending[0]), by=["mill-checker"]),
        book.done(Withdraw(mill, pending[1]), by=["mill"]),
        book.done(Approve(mill, pending[0]), by=["spare"]),
        book.refused("ledger", 42, Approve(mill, pending[1]), by=["spare"]),
    )
    book.block(after_ms=2 * DAY_MS)


SIMULATION = Simulation(
    rules={
        Open: Rule(draw_open, by_account, open_),
        ChangePolicy: Rule(draw_change_policy, by_account, change_policy),
        SetAdministration: Rule(draw_set_administration, by_account, set_administration),
        SetFrozen: Rule(draw_set_frozen, by_account, set_frozen),
        SetLimit: Rule(draw_set_limit, claims_of_limit, set_limit),
        Propose: Rule(draw_propose, by_account, propose, is_contribution=True),
        Approve: Rule(draw_approve, by_account, approve, is_contribution=True),
        Withdraw: Rule(draw_withdraw, by_account, withdraw, is_contribution=True),
    },
    opening=opening,
    story=story,
)
