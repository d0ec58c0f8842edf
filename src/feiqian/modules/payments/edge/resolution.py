"""Finds whom an instruction means: agents by BIC or clearing number, accounts by directory digest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from feiqian.modules.payments.edge.directory import IBAN, alias_digest, name_digest
from feiqian.modules.payments.edge.instructions import AccountNumber, AgentNumber, Instruction

MAX_LOOK_UP = 1_000
"""Aliases that one look-up may ask for."""


class AgentEntry(Struct, frozen=True):
    """A bank that takes part in payments with one deposit asset. `vault_key` is its X25519 key, 32 bytes."""

    deposit_asset: str
    member: str
    legal_name: str
    currency: str
    scale: int
    bic: str | None
    clearing_system: str | None
    clearing_member: str | None
    limit_minor: int
    vault_key: bytes | None


class AliasEntry(Struct, frozen=True):
    """What an account number means. `member` is the account's, `vault_key` that member's."""

    account: bytes
    holder_name: bytes
    is_closed: bool
    member: str
    vault_key: bytes | None


class Directory(Protocol):
    """Where agents and account numbers are looked up; a gateway's, or the ledger's own state."""

    def agents(self) -> Sequence[AgentEntry]:
        """Return every agent."""
        ...

    def look_up(self, aliases: Sequence[tuple[str, bytes]]) -> Sequence[AliasEntry | None]:
        """Return what each (deposit asset, alias digest) means, at most `MAX_LOOK_UP` of them."""
        ...

    def paid(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """Say of each debtor account ‖ instruction id whether it is paid, at most `MAX_LOOK_UP` of them."""
        ...

    def required_readers(self) -> Mapping[str, bytes]:
        """Return the vault keys of those who read every payment's particulars."""
        ...


class Unresolved(Exception):
    """An account that cannot be used, as ISO reason and sentence."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


class Side(NamedTuple):
    """One end of a payment: its bank and its account there."""

    agent: AgentEntry
    alias: AliasEntry


Found = Mapping[tuple[str, bytes], AliasEntry | None]


def aliases_of(instructions: Iterable[Instruction], agents: Sequence[AgentEntry]) -> list[tuple[str, bytes]]:
    """Return every (deposit asset, alias digest) that the instructions may mean, each once, in order."""
    wanted: dict[tuple[str, bytes], None] = {}
    for instruction in instructions:
        sides = (
            (instruction.debtor_account, instruction.debtor_agent),
            (instruction.creditor_account, instruction.creditor_agent),
        )
        for account, number in sides:
            if account is not None:
                for agent in _candidates(number, account, instruction.currency, agents):
                    wanted[_key(agent, account)] = None
    return list(wanted)


def look_up_all(directory: Directory, aliases: Sequence[tuple[str, bytes]]) -> Found:
    """Ask the directory for any number of aliases."""
    found: dict[tuple[str, bytes], AliasEntry | None] = {}
    for start in range(0, len(aliases), MAX_LOOK_UP):
        part = aliases[start : start + MAX_LOOK_UP]
        found.update(zip(part, directory.look_up(part), strict=True))
    return found


def resolve_debtor(instruction: Instruction, agents: Sequence[AgentEntry], found: Found) -> Side:
    """Return the debtor's agent and account.

    Raises:
        Unresolved: AGNT, AM03, AC02, AC04 as the case may be.
    """
    return _resolve(
        instruction.debtor_agent, instruction.debtor_account, instruction.currency, agents, found, "debtor", "AC02"
    )


def resolve_creditor(instruction: Instruction, agents: Sequence[AgentEntry], found: Found) -> Side:
    """Return the creditor's agent and account, the holder's name checked.

    Raises:
        Unresolved: AGNT, AM03, AC03, AC04, BE22 (no name) or BE01 (another name) as the case may be.
    """
    account = instruction.creditor_account
    if account is None:
        raise Unresolved("AC03", "the creditor's account is missing")
    side = _resolve(instruction.creditor_agent, account, instruction.currency, agents, found, "creditor", "AC03")
    name = instruction.creditor.name
    if name is None:
        raise Unresolved("BE22", "the creditor's name is missing; the creditor's bank checks it")
    if name_digest(side.agent.deposit_asset, account.kind, account.number, name) != side.alias.holder_name:
        raise Unresolved("BE01", "the creditor's name is not that of the account's holder")
    return side


def _resolve(
    number: AgentNumber,
    account: AccountNumber,
    currency: str,
    agents: Sequence[AgentEntry],
    found: Found,
    who: str,
    unknown: str,
) -> Side:
    candidates = _candidates(number, account, currency, agents)
    if not candidates:
        if any(_is_named(agent, number) for agent in agents):
            raise Unresolved("AM03", f"the {who}'s bank takes no part in payments in {currency}")
        raise Unresolved("AGNT", f"the {who}'s bank is not named, or takes no part in payments here")
    sides = [Side(agent, alias) for agent in candidates if (alias := found.get(_key(agent, account))) is not None]
    opened = [side for side in sides if not side.alias.is_closed]
    if len(opened) == 1:
        return opened[0]
    if opened:
        raise Unresolved(unknown, f"the {who}'s account number is known at more than one bank; name the bank")
    if sides:
        raise Unresolved("AC04", f"the {who}'s account number is closed")
    raise Unresolved(unknown, f"the {who}'s account number is not known to its bank")


def _candidates(
    number: AgentNumber, account: AccountNumber, currency: str, agents: Sequence[AgentEntry]
) -> list[AgentEntry]:
    of_currency = [agent for agent in agents if agent.currency == currency]
    if number.bic is None and number.clearing_member is None:
        # An IBAN names its bank by itself: it has to be known at exactly one.
        return of_currency if account.kind == IBAN else []
    return [agent for agent in of_currency if _is_named(agent, number)]


def _is_named(agent: AgentEntry, number: AgentNumber) -> bool:
    if number.bic is None and number.clearing_member is None:
        return False
    # The first eight characters name the institution, the rest a branch (ISO 9362).
    if number.bic is not None and (agent.bic is None or number.bic[:8] != agent.bic[:8]):
        return False
    if number.clearing_member is None:
        return True
    is_system = number.clearing_system is None or number.clearing_system == agent.clearing_system
    return is_system and number.clearing_member == agent.clearing_member


def _key(agent: AgentEntry, account: AccountNumber) -> tuple[str, bytes]:
    return agent.deposit_asset, alias_digest(agent.deposit_asset, account.kind, account.number)
