"""Says whether calls came in an order that CometBFT's published grammar allows.

Source: CometBFT v0.40.0, spec/abci/abci++_comet_expected_behavior.md. Its rules are read as they stand in ABNF; a life
of CometBFT is endless there, so that one which was cut short is allowed wherever it may go on.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

RULES = """\
start = clean-start / recovery
clean-start = ( app-handshake / state-sync ) consensus-exec
app-handshake = info init-chain
state-sync = *state-sync-attempt success-sync info
state-sync-attempt = offer-snapshot *apply-chunk
success-sync = offer-snapshot 1*apply-chunk
recovery = info [init-chain] consensus-exec
consensus-exec = (inf)consensus-height
consensus-height = *consensus-round finalize-block commit
consensus-round = proposer / non-proposer
proposer = *got-vote [prepare-proposal [process-proposal]] [extend]
extend = *got-vote extend-vote *got-vote
non-proposer = *got-vote [process-proposal] [extend]
"""

CALLS = {
    "info": "info",
    "init_chain": "init-chain",
    "offer_snapshot": "offer-snapshot",
    "apply_snapshot_chunk": "apply-chunk",
    "prepare_proposal": "prepare-proposal",
    "process_proposal": "process-proposal",
    "extend_vote": "extend-vote",
    "verify_vote_extension": "got-vote",
    "finalize_block": "finalize-block",
    "commit": "commit",
}
"""What the grammar calls each call."""

ANY_TIME = frozenset({"list_snapshots", "load_snapshot_chunk"})
"""Calls that the grammar leaves out: they may come at any time. So may `info` for a client of CometBFT's RPC, which
cannot be told from another: what is checked must come from a CometBFT that nobody asked for `abci_info`."""


class Violation(NamedTuple):
    """The first call that may not come where it came: its place from 0, and which could have come there instead."""

    place: int
    call: str
    expected: tuple[str, ...]


class _Call(NamedTuple):
    name: str


class _Sequence(NamedTuple):
    parts: tuple["_Expression", ...]


class _Choice(NamedTuple):
    options: tuple["_Expression", ...]


class _Any(NamedTuple):
    """Any number of times, also none."""

    part: "_Expression"


_Expression = _Call | _Sequence | _Choice | _Any
_NOTHING = _Sequence(())


def find_violation(calls: Sequence[str]) -> Violation | None:
    """Return where the calls of one life of CometBFT, from its first on, leave the grammar; None if they do not.

    `calls` are the names of the protocol's messages, such as "finalize_block".
    """
    states = frozenset({_rule("start")})
    for place, call in enumerate(calls):
        if call in ANY_TIME:
            continue
        after = _after(states, CALLS.get(call, ""))
        if not after:
            expected = [known for known, name in CALLS.items() if _after(states, name)]
            return Violation(place, call, tuple(expected))
        states = after
    return None


def _after(states: frozenset[_Expression], call: str) -> frozenset[_Expression]:
    return frozenset(rest for state in states for rest in _rests(state, call))


@cache
def _rests(expression: _Expression, call: str) -> frozenset[_Expression]:
    """Return what may follow when `call` came first (Antimirov's partial derivatives)."""
    match expression:
        case _Call(name):
            return frozenset({_NOTHING}) if name == call else frozenset()
        case _Choice(options):
            return frozenset(rest for option in options for rest in _rests(option, call))
        case _Any(part):
            return frozenset(_then(rest, expression) for rest in _rests(part, call))
        case _Sequence(parts):
            if not parts:
                return frozenset()
            follow = _Sequence(parts[1:])
            rests = frozenset(_then(rest, follow) for rest in _rests(parts[0], call))
            return rests | _rests(follow, call) if _may_be_empty(parts[0]) else rests


def _then(first: _Expression, second: _Expression) -> _Expression:
    parts = [expression.parts if isinstance(expression, _Sequence) else (expression,) for expression in (first, second)]
    return _Sequence((*parts[0], *parts[1]))


@cache
def _may_be_empty(expression: _Expression) -> bool:
    match expression:
        case _Call():
            return False
        case _Choice(options):
            return any(_may_be_empty(option) for option in options)
        case _Any():
            return True
        case _Sequence(parts):
            return all(_may_be_empty(part) for part in parts)


@cache
def _rule(name: str) -> _Expression:
    """Return what a name stands for: a call, or a rule with those that it names put in."""
    if name in CALLS.values():
        return _Call(name)
    (text,) = [text for rule, _, text in (line.partition(" = ") for line in RULES.splitlines()) if rule == name]
    return _Reader(text).read()


class _Reader:
    """Reads the right side of a rule: sequence, `/`, `( )`, `[ ]`, `*x`, `1*x`, and the endless `(inf)x` as `*x`."""

    def __init__(self, text: str) -> None:
        self._words = re.findall(r"\(inf\)|1\*|[a-z-]+|[*/()\[\]]", text)

    def read(self) -> _Expression:
        """Return the expression up to the closing bracket or the end."""
        options: list[_Expression] = []
        parts: list[_Expression] = []
        while self._words and self._words[0] not in (")", "]"):
            if self._words[0] == "/":
                self._words.pop(0)
                options.append(_Sequence(tuple(parts)))
                parts = []
            else:
                parts.append(self._read_part())
        return _Choice((*options, _Sequence(tuple(parts))))

    def _read_part(self) -> _Expression:
        match self._words.pop(0):
            case "*" | "(inf)":
                return _Any(self._read_part())
            case "1*":
                part = self._read_part()
                return _Sequence((part, _Any(part)))
            case "(" | "[" as bracket:
                inner = self.read()
                self._words.pop(0)
                return _Choice((inner, _NOTHING)) if bracket == "[" else inner
            case name:
                return _rule(name)
