"""The audit of a network's ledger: whatever its members signed must be what the blocks before it give."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus import light, proof_file
from feiqian.consensus.audit import AuditReport, audit
from feiqian.consensus.headers import ABSENT_SIGNATURE, Header, Validator, ValidatorSet
from feiqian.consensus.proving import Unprovable, prove_record, prove_result
from feiqian.execution.registry import Registry
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.records import Balance
from feiqian.ledger.validators import DUPLICATE_VOTE, Misbehaviour
from feiqian.state import rows
from feiqian.state.archive import ArchiveRow
from feiqian.testing.ledgers import ASSET
from feiqian.testing.networks import FIRST, NS_PER_MS, A, N, NetworkLedger, network_registry, signer_of


@pytest.fixture(scope="module")
def network_rules() -> Registry:
    return network_registry()


@pytest.fixture
def network(tmp_path: Path, network_rules: Registry) -> Iterator[NetworkLedger]:
    made = NetworkLedger(tmp_path / "ledger", network_rules)
    yield made
    made.close()


def run(network: NetworkLedger) -> AuditReport:
    return audit(network.store, network.registry, network.genesis, workers=1)


def said(report: AuditReport) -> list[tuple[int, str]]:
    return [(problem.height, problem.what) for problem in report.problems]


def play(network: NetworkLedger, twist: Callable[[Header], Header] = lambda header: header) -> None:
    """Blocks 5 to 14: a validator is added, one re-weighted, one removed; votes are missing; block 12 is twisted."""
    network.block()
    network.block(network.issue(1_000), flags={2: A})
    network.block(network.appoint({5: 5, 1: 12}), flags={0: N})
    network.block()
    network.block(network.issue(5), flags={4: A})
    network.block(network.appoint({5: 0}), network.limit(2**20))
    network.block(flags={3: A, 4: A})
    network.block(network.issue(7), twist=twist)
    network.block(after_ns=2_000_000)
    network.block()


def test_a_sound_network(network: NetworkLedger):
    play(network)
    report = run(network)
    assert said(report) == []
    assert (report.first_height, report.last_height, report.blocks, report.transactions) == (FIRST, 14, 10, 6)
    rows_held = [network.store.archive_row(height) for height in range(5, 15)]
    sizes = [len(light.light_block(row).validators.validators) for row in rows_held if row is not None]
    # Block 7 changes the set for block 9, block 10 for block 12.
    assert sizes == [4, 4, 4, 4, 5, 5, 5, 4, 4, 4]


@pytest.mark.parametrize(
    ("name", "twisted"),
    [
        ("app_version", lambda header: 2),
        ("time_ns", lambda header: header.time_ns + NS_PER_MS),
        ("last_block_id", lambda header: header.last_block_id._replace(hash=bytes(32))),
        ("last_commit_hash", lambda header: bytes(32)),
        ("data_hash", lambda header: bytes(32)),
        ("next_validators_hash", lambda header: bytes(32)),
        ("consensus_hash", lambda header: bytes(32)),
        ("app_hash", lambda header: bytes(32)),
        ("last_results_hash", lambda header: bytes(32)),
    ],
)
def test_a_header_that_the_members_signed_and_the_ledger_does_not_give(
    network: NetworkLedger, name: str, twisted: Callable[[Header], Any]
):
    play(network, lambda header: header._replace(**{name: twisted(header)}))
    assert said(run(network))[0] == (12, f"header: {name} is not what the block gives")


def test_the_limits_of_a_block_are_those_of_the_parameters_before_it(network: NetworkLedger):
    former = network.genesis.params.hash()
    play(network, lambda header: header._replace(consensus_hash=former))
    assert said(run(network)) == [(12, "header: consensus_hash is not what the block gives")]


def test_validators_that_the_ledger_did_not_appoint(network: NetworkLedger):
    network.block()
    # The members sign that a fifth will vote, and nobody appointed it.
    network.block()
    stranger = Validator(signer_of(9).public_key, 1)
    network.next_validators = ValidatorSet.ordered((*network.validators.validators, stranger))
    network.block()
    assert said(run(network)) == [(7, "header: next_validators_hash is not what the block gives")]


def test_a_proposer_who_is_no_validator(network: NetworkLedger):
    play(network, lambda header: header._replace(proposer_address=bytes(20)))
    assert said(run(network)) == [(12, "header: proposer_address is no validator's")]


def test_times_may_share_a_millisecond_and_not_go_back(network: NetworkLedger):
    network.block()
    network.block(after_ns=100)
    network.block(after_ns=100)
    assert said(run(network)) == []
    network.block(twist=lambda header: header._replace(time_ns=network.time_ns))
    assert said(run(network))[0] == (8, "archive: height 8: its time is not after that of height 7")


def test_a_commit_that_the_next_block_does_not_hold(network: NetworkLedger):
    network.block()
    network.block(network.issue(3))
    block = network.block()
    network.block()
    fewer = block.commit._replace(signatures=(ABSENT_SIGNATURE, *block.commit.signatures[1:]))
    network.store.put_archive(light.archive_row(block._replace(commit=fewer)))
    assert [what for height, what in said(run(network)) if height == 8] == [
        "header: last_commit_hash is not what the block gives",
        "commit: block_id.parts are not those of the block",
    ]
    network.store.put_archive(light.archive_row(block))
    assert said(run(network)) == []


def test_a_commit_without_more_than_two_thirds(network: NetworkLedger):
    network.block()
    network.block(flags={0: A, 1: N})
    network.block()
    message = "archive: height 6: power 20 of 40 signed; more than 2/3 is needed"
    assert said(run(network)) == [(6, message)]


def test_heights_that_are_not_signed_yet_are_left_for_later(network: NetworkLedger):
    network.block()
    network.block(network.issue(3))
    network.block(network.issue(3), is_archived=False)
    report = run(network)
    assert said(report) == []
    assert (report.last_height, report.transactions) == (6, 1)


def test_a_gap_in_the_archive(network: NetworkLedger):
    network.block()
    network.block(is_archived=False)
    network.block()
    assert said(run(network)) == [(6, "header and commit are not archived")]


def test_a_whole_turnover_of_validators(network: NetworkLedger):
    network.block()
    for seed in range(5, 13):
        network.block(network.appoint({seed: 10, seed - 4: 0}))
    for _ in range(3):
        network.block()
    assert said(run(network)) == []
    rows = {height: network.store.archive_row(height) for height in range(FIRST, network.store.height + 1)}

    def fetch(height: int) -> light.LightBlock | None:
        row: ArchiveRow | None = rows.get(height)
        return None if row is None else light.light_block(row)

    trail = light.build_trail(fetch, network.genesis, network.store.height)
    assert len(trail) > 2
    assert light.verify_trail(network.genesis, trail).last == fetch(network.store.height)
    with pytest.raises(light.InvalidTrail, match="a block between the two is missing"):
        light.verify_trail(network.genesis, trail[-1:])


def proved(network: NetworkLedger) -> tuple[Misbehaviour, ...]:
    return (Misbehaviour(DUPLICATE_VOTE, network.validators.validators[-1].address, FIRST, network.store.time_ms, 10),)


def test_misbehaviour_stands_in_a_block_whose_header_shows_evidence(network: NetworkLedger):
    network.block()
    network.block(misbehaviour=proved(network), evidence_hash=b"\x05" * 32)
    network.block()
    # Evidence that names nobody: CometBFT proves some attacks without knowing by whom.
    network.block(evidence_hash=b"\x06" * 32)
    network.block()
    assert said(run(network)) == []
    network.block(misbehaviour=proved(network))
    assert said(run(network)) == [(10, "header: it shows no evidence, and the block holds misbehaviour")]


def test_facts_are_proved_from_the_genesis_up_to_the_last_archived_block(network: NetworkLedger):
    network.block(network.issue(77))
    for seed in range(5, 10):
        network.block(network.appoint({seed: 10, seed - 4: 0}), flags={1: A})
    network.block(network.issue(1))
    network.block()
    network.block(network.issue(1), is_archived=False)
    store, key = network.store, balance_key(network.addresses["treasury"], ASSET)
    data = prove_record(store, network.genesis, BALANCES, key)
    verified = proof_file.verify(data, network.genesis, network.registry.tables)
    assert isinstance(verified.record, Balance)
    assert (verified.height, verified.record.posted_minor) == (11, 78)
    assert len(verified.trail_heights) > 1
    # Four signed the last block of the trail: each signature that is there counts.
    assert verified.signatures == 4
    with pytest.raises(Unprovable, match="the last that is: 11"):
        prove_record(store, network.genesis, BALANCES, key, height=12)
    fifth = store.block(5)
    assert fifth is not None
    (result,) = rows.decode_results(fifth.results)
    result_file = prove_result(store, network.genesis, result[0])
    assert proof_file.verify(result_file, network.genesis, network.registry.tables).block_height == 5
    for old, new in ((b'"round":1', b'"round":2'), (b'"voting_power":"10"', b'"voting_power":"11"')):
        assert old in data
        with pytest.raises(proof_file.InvalidProofFile, match="trail"):
            proof_file.verify(data.replace(old, new, 1), network.genesis, network.registry.tables)
