"""Whose word is taken: samples at random, doubt where one is refused, trust again after a while."""

import random

import pytest

from feiqian.core.errors import InvalidTransaction
from feiqian.execution.errors import SignatureInvalid
from feiqian.ledger.errors import (
    AccountFrozen,
    ExpiryTooFar,
    NotAuthorised,
    SponsorNotConcerned,
    TransactionExpired,
    TransactionReplayed,
)
from feiqian.node.tellers import DOUBT_S, Tellers
from feiqian.node.verifier import Answer, Answers

CHUNK = 128
NODE = "ab" * 20
OTHER = "cd" * 20


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def refused(place: int, rule: type[InvalidTransaction]) -> Answers:
    return {place: Answer(place, rule.codespace, rule.number, "", 0)}


@pytest.mark.parametrize("rule", [NotAuthorised, AccountFrozen, SponsorNotConcerned])
def test_a_node_is_checked_whole_once_a_sample_has_no_authority_and_for_as_long_as_it_is_doubted(
    rule: type[InvalidTransaction],
) -> None:
    clock = Clock()
    tellers = Tellers(clock)
    (place,) = tellers.sample(NODE, CHUNK)
    assert not tellers.is_borne_out(NODE, CHUNK, (place,), refused(place, rule))
    assert tellers.sample(NODE, CHUNK) == range(CHUNK)
    assert len(tellers.sample(OTHER, CHUNK)) == 1
    assert tellers.is_borne_out(NODE, CHUNK, range(CHUNK), refused(3, rule)), "all of it was asked of already"
    clock.now_s += DOUBT_S - 1
    assert len(tellers.sample(NODE, CHUNK)) == CHUNK
    clock.now_s += 2
    assert len(tellers.sample(NODE, CHUNK)) == 1


@pytest.mark.parametrize("rule", [TransactionExpired, TransactionReplayed, ExpiryTooFar, SignatureInvalid])
def test_what_came_too_late_or_is_checked_of_all_says_nothing_of_the_rest(rule: type[InvalidTransaction]) -> None:
    tellers = Tellers(Clock())
    (place,) = tellers.sample(NODE, CHUNK)
    assert tellers.is_borne_out(NODE, CHUNK, (place,), refused(place, rule))
    assert len(tellers.sample(NODE, CHUNK)) == 1


def test_what_is_a_nodes_own_is_always_checked_whole_and_never_doubted() -> None:
    tellers = Tellers(Clock())
    assert tellers.sample(None, CHUNK) == range(CHUNK)
    assert tellers.is_borne_out(None, CHUNK, range(CHUNK), refused(0, NotAuthorised))


def test_every_place_is_sampled_so_that_none_is_safe_to_lie_at() -> None:
    tellers = Tellers(Clock())
    assert {place for _ in range(500) for place in tellers.sample(NODE, 8)} == set(range(8))


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
def test_about_a_chunk_slips_in_before_a_liar_is_found_out_whatever_share_of_it_are_lies(share: float) -> None:
    chance, slipped, runs = random.Random(7), 0, 400
    for _ in range(runs):
        tellers = Tellers(Clock())
        while True:
            lies = {place for place in range(CHUNK) if chance.random() < share}
            sample = tellers.sample(NODE, CHUNK)
            answers = refused(sample[0], NotAuthorised) if sample[0] in lies else {}
            if not tellers.is_borne_out(NODE, CHUNK, sample, answers):
                break
            slipped += len(lies)
    assert slipped / runs < 1.5 * CHUNK
