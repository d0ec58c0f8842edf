"""A solo ledger handed over to a network: what goes over, which proofs cross in which direction, what is refused."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from feiqian.cli import upkeep
from feiqian.consensus import hand_over, headers, light, merkle, proof_file, proving
from feiqian.consensus.genesis_file import Genesis, InvalidGenesis, read_genesis, save_genesis, write_genesis
from feiqian.consensus.headers import BLOCK_PROTOCOL, NO_COMMIT, BlockID, BlockIDFlag, Commit, CommitSig, Header
from feiqian.consensus.light import KnownBlock, LightBlock
from feiqian.consensus.proof_file import InvalidProofFile, Verified
from feiqian.consensus.solo import SoloSigner, make_archive_row
from feiqian.core.settings import SettingsError
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.execution.genesis import ConsortiumError
from feiqian.execution.registry import Registry
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.validators import NODES, validator_set
from feiqian.node.comet.hand_over import NotHandedOver, hand_over_ledger, next_chain_id
from feiqian.node.comet.testnet import Network, endpoints_here
from feiqian.node.configuration import Layout
from feiqian.node.initialise import LedgerExists, prepare_ledger
from feiqian.state.block_log import BlockLog
from feiqian.state.errors import SnapshotRefused
from feiqian.state.replay import REPLAY_DIGESTS
from feiqian.state.store import Store
from feiqian.state.tables import BlockState
from feiqian.testing.ledgers import ASSET, SampleLedger
from feiqian.testing.processes import NodeProcess
from feiqian.testing.validators import await_that

TIME_MS = 4_000_000_000_000
"""Long after the solo ledger's last block."""


class Past(NamedTuple):
    """A solo ledger that was run and stopped: two payments, and a proof of the second one made then."""

    directory: Path
    ledger: SampleLedger
    tx_id: bytes
    proof: bytes


class Handed(NamedTuple):
    """The network that goes on with it, and the proof of a balance by its first block."""

    directory: Path
    past: Past
    network: Network
    proof: bytes

    @property
    def old(self) -> Genesis:
        return load(self.past.directory)

    @property
    def layout(self) -> Layout:
        return Layout(self.network.validators[0].directory)


def load(directory: Path) -> Genesis:
    return read_genesis((directory / "genesis.json").read_bytes())


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Past:
    directory = tmp_path_factory.mktemp("past") / "solo"
    ledger = SampleLedger(directory, registry)
    payment = ledger.transfer("treasury", "south", 700)
    with NodeProcess(directory).await_ready() as node:
        with node.connect() as channel:
            # Each payment has its block, and after each comes an empty one.
            for signed, height in ((ledger.issue("treasury", 1_000), 3), (payment, 5)):
                (verdict,) = channel.submit([signed])
                assert not verdict.number, verdict
                await_that(f"height {height}", lambda height=height: channel.status().height >= height)
        assert node.terminate() == 0
    store = Store.open(Layout(directory).ledger, read_only=True)
    tx_id = transaction_id(decode_signed(payment).body)
    proof = proving.prove_result(store, load(directory), tx_id)
    store.close()
    return Past(directory, ledger, tx_id, proof)


@pytest.fixture
def solo(past: Past, tmp_path: Path) -> Path:
    """A copy of the solo ledger's directory."""
    return Path(shutil.copytree(past.directory, tmp_path / "solo", ignore=shutil.ignore_patterns("*.sock")))


@pytest.fixture(scope="module")
def handed(past: Past, tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Handed:
    directory = tmp_path_factory.mktemp("handed")
    ignored = shutil.ignore_patterns("*.sock")
    mine = past._replace(directory=Path(shutil.copytree(past.directory, directory / "solo", ignore=ignored)))
    network = hand_over_ledger(directory / "net", mine.directory, registry, endpoints_here(3), TIME_MS)
    layout = Layout(network.validators[0].directory)
    prepare_ledger(layout, registry, lambda: 0)
    store = Store.open(layout.ledger)
    store.put_archive(light.archive_row(first_block(network)))
    key = balance_key(past.ledger.addresses["south"], ASSET)
    proof = proving.prove_record(store, network.genesis, BALANCES, key)
    store.close()
    return Handed(directory, mine, network, proof)


def first_block(network: Network, app_hash: bytes | None = None) -> LightBlock:
    """Return the network's first block as its validators would sign it: an empty one."""
    genesis = network.genesis
    validators = genesis.validator_set()
    header = Header(
        BLOCK_PROTOCOL,
        1,
        genesis.chain_id,
        genesis.initial_height,
        genesis.time_ns,
        NO_COMMIT.block_id,
        NO_COMMIT.hash(),
        headers.data_hash(()),
        validators.hash(),
        validators.hash(),
        genesis.params.hash(),
        app_hash or genesis.app_hash,
        headers.results_hash(()),
        merkle.EMPTY_HASH,
        validators.validators[0].address,
    )
    block_id = BlockID(header.hash(), headers.part_set_header(header, (), NO_COMMIT))
    signers = {
        signer.public_key: signer
        for signer in [SoloSigner.load(Layout(made.directory).validator_key) for made in network.validators]
    }
    message = headers.vote_sign_bytes(genesis.chain_id, header.height, 0, block_id, header.time_ns)
    signatures = [
        CommitSig(BlockIDFlag.COMMIT, each.address, header.time_ns, signers[each.public_key].sign(message))
        for each in validators.validators
    ]
    return LightBlock(header, Commit(header.height, 0, block_id, tuple(signatures)), validators)


def verify(data: bytes, genesis: Genesis, registry: Registry, known: KnownBlock | None = None) -> Verified:
    return proof_file.verify(data, genesis, registry.tables, known)


# What goes over.


@pytest.mark.parametrize(
    ("chain_id", "following"),
    [("trade-1", "trade-2"), ("trade", "trade-2"), ("trade-9", "trade-10"), ("a-b-0", "a-b-0-2"), ("t-01", "t-01-2")],
)
def test_the_revision_counts_up(chain_id: str, following: str) -> None:
    assert next_chain_id(chain_id) == following


def test_a_chain_id_that_grows_too_long_is_refused() -> None:
    with pytest.raises(NotHandedOver, match="at most 50"):
        next_chain_id("a" * 49)


def test_the_network_begins_where_the_ledger_ended(handed: Handed) -> None:
    store = Store.open(Layout(handed.past.directory).ledger, read_only=True)
    height, records = store.height, dict(store.scan(b""))
    store.close()
    genesis = handed.network.genesis
    assert (genesis.chain_id, genesis.initial_height, genesis.time_ms) == ("sample-2", height + 1, TIME_MS)
    made = Store.open(handed.layout.ledger, read_only=True)
    try:
        assert (made.height, made.app_hash, made.chain_id) == (height, genesis.app_hash, "sample-2")
        state = BlockState(made)
        members = [made.member for made in handed.network.validators]
        assert members == sorted(key.decode() for key, _ in MEMBERS.scan(state))
        assert len(validator_set(state)) == len(list(NODES.scan(state))) == 3
        after = dict(made.scan(b""))
    finally:
        made.close()
    added = {key.split(b"/")[0] for key in after.keys() - records.keys()}
    assert added == {b"ledger.validators", b"ledger.nodes"}
    gone = records.keys() - after.keys()
    assert gone
    assert all(key.startswith(REPLAY_DIGESTS.prefix) for key in gone)
    assert all(after[key] == records[key] for key in after.keys() & records.keys())


def test_every_directory_has_the_same_beginning_and_the_past_to_read_only(handed: Handed) -> None:
    layouts = [Layout(made.directory) for made in handed.network.validators]
    assert len({layout.genesis.read_bytes() for layout in layouts}) == 1
    assert len({layout.first_state.read_bytes() for layout in layouts}) == 1
    for layout in layouts:
        origin = Layout(layout.origin)
        assert origin.genesis.read_bytes() == (handed.past.directory / "genesis.json").read_bytes()
        assert (origin.ledger / "data.mdb").stat().st_mode & 0o777 == 0o440
        assert not origin.validator_key.exists()


def test_the_state_is_audited_from_where_it_was_handed_over(handed: Handed, capsys: pytest.CaptureFixture[str]) -> None:
    upkeep.audit(handed.layout.directory, json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["is_clean"]
    assert "the state of sample-1 after block" in said["base"]
    upkeep.audit(handed.layout.origin, json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["is_clean"]
    assert said["transactions"] == 2
    assert "the genesis of sample-1" in said["base"]


# Proofs.


def test_an_old_proof_verifies_by_either_genesis(handed: Handed, registry: Registry) -> None:
    by_old = verify(handed.past.proof, handed.old, registry)
    by_new = verify(handed.past.proof, handed.network.genesis, registry)
    assert by_new._replace(trusted="") == by_old._replace(trusted="")
    assert by_new.key == handed.past.tx_id
    assert by_new.trusted.startswith("the genesis of sample-2 ")
    assert by_new.trusted.endswith("to which sample-1 was handed over")


def test_an_old_payment_is_proved_from_what_went_along(handed: Handed, registry: Registry) -> None:
    origin = Layout(handed.layout.origin)
    store = Store.open(origin.ledger, read_only=True)
    try:
        made = proving.prove_result(store, load(origin.directory), handed.past.tx_id)
    finally:
        store.close()
    for genesis in (handed.old, handed.network.genesis):
        assert verify(made, genesis, registry).key == handed.past.tx_id


def test_a_new_proof_verifies_by_either_genesis(handed: Handed, registry: Registry) -> None:
    by_new = verify(handed.proof, handed.network.genesis, registry)
    by_old = verify(handed.proof, handed.old, registry)
    assert by_new._replace(trusted="") == by_old._replace(trusted="")
    assert (by_new.chain_id, by_new.signatures) == ("sample-2", 3)
    assert BALANCES.codec.decode(by_new.value or b"").posted_minor == 700
    assert by_old.trusted.endswith("which was handed over to sample-2")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every string and number in plain JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from places(inner, (*path, place))
    else:
        yield path


def changed(text: str) -> str:
    """Return a text with one character changed into another of its kind."""
    place = len(text) // 2
    letter = text[place]
    other = "1" if letter.isdigit() and letter != "1" else "2" if letter.isdigit() else "A" if letter != "A" else "B"
    return text[:place] + other + text[place + 1 :]


def test_whatever_is_changed_in_a_hand_over_is_refused_by_both(handed: Handed, registry: Registry) -> None:
    plain = json.loads(handed.proof)
    tried = 0
    for path in places(plain["hand_over"]):
        twisted = copy.deepcopy(plain)
        inner = twisted["hand_over"]
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = changed(inner[path[-1]])
        data = json.dumps(twisted, separators=(",", ":"), ensure_ascii=False).encode()
        for genesis in (handed.old, handed.network.genesis):
            with pytest.raises(InvalidProofFile) as refused:
                verify(data, genesis, registry)
            assert refused.value.step == "hand-over", path
        tried += 1
    # Two sides of five values, one and three validators of four each, and three more.
    assert tried == 2 * 4 + (1 + 3) * 4 + 3


def without(plain: dict[str, Any]) -> None:
    del plain["hand_over"]


def null(plain: dict[str, Any]) -> None:
    plain["hand_over"] = None


@pytest.mark.parametrize(("change", "step"), [(without, "hand-over"), (null, "file")])
def test_a_new_proof_names_the_hand_over(
    handed: Handed, registry: Registry, change: Callable[[dict[str, Any]], None], step: str
) -> None:
    plain = json.loads(handed.proof)
    change(plain)
    data = json.dumps(plain, separators=(",", ":")).encode()
    with pytest.raises(InvalidProofFile) as refused:
        verify(data, handed.network.genesis, registry)
    assert refused.value.step == step
    with pytest.raises(InvalidProofFile):
        verify(data, handed.old, registry)


def test_an_old_proof_names_none(handed: Handed, registry: Registry) -> None:
    plain = json.loads(handed.past.proof)
    plain["hand_over"] = json.loads(handed.proof)["hand_over"]
    data = json.dumps(plain, separators=(",", ":")).encode()
    for genesis in (handed.old, handed.network.genesis):
        with pytest.raises(InvalidProofFile):
            verify(data, genesis, registry)


def test_a_stranger_cannot_hand_a_ledger_over(handed: Handed, registry: Registry) -> None:
    true = hand_over.of_genesis(handed.network.genesis)
    assert true is not None
    stranger = SoloSigner(b"\x07" * 32)
    forged = hand_over.sign(stranger, true.origin, true.height, true.header_hash, true.successor)
    with pytest.raises(hand_over.MalformedHandOver, match="signature"):
        hand_over.read(hand_over.write(forged))
    # One who names himself the former validator is not of that genesis.
    own = true.origin._replace(
        validators=headers.ValidatorSet((headers.Validator(stranger.public_key, 1),)),
    )
    named = hand_over.sign(stranger, own, true.height, true.header_hash, true.successor)
    assert not hand_over.is_from(hand_over.read(hand_over.write(named)), handed.old)


def test_what_the_former_validator_signs_afterwards_proves_nothing_by_the_network(
    handed: Handed, registry: Registry
) -> None:
    origin = Layout(handed.past.directory)
    store = Store.open(origin.ledger)
    try:
        signer = SoloSigner.load(origin.validator_key)
        row = make_archive_row(
            handed.old,
            signer,
            store.archive_row(store.height),
            height=store.height + 1,
            time_ms=store.time_ms + 1,
            bundles=(),
            app_hash_before=store.app_hash,
            results_before=(),
            app_version=1,
        )
        height = store.height
        key = balance_key(handed.past.ledger.addresses["south"], ASSET)
        record, proof = store.prove(height, BALANCES.prefix + key)
        trail = [light.light_block(row)]
        made = proof_file.build_record(height, BALANCES, key, record, proof, store.app_hash, trail)
    finally:
        store.close()
    assert verify(made, handed.old, registry).height == height
    with pytest.raises(InvalidProofFile, match=f"handed over after block {height}"):
        verify(made, handed.network.genesis, registry)


def test_a_last_block_that_is_not_the_one_handed_over_proves_nothing(handed: Handed, registry: Registry) -> None:
    origin = Layout(handed.past.directory)
    store = Store.open(origin.ledger, read_only=True)
    try:
        signer = SoloSigner.load(origin.validator_key)
        height = store.height - 1
        row = make_archive_row(
            handed.old,
            signer,
            store.archive_row(height),
            height=height + 1,
            time_ms=store.time_ms + 5,
            bundles=(),
            app_hash_before=store.app_hash_at(height),
            results_before=(),
            app_version=1,
        )
        key = balance_key(handed.past.ledger.addresses["south"], ASSET)
        record, proof = store.prove(height, BALANCES.prefix + key)
        trail = [light.light_block(row)]
        made = proof_file.build_record(height, BALANCES, key, record, proof, store.app_hash_at(height), trail)
    finally:
        store.close()
    assert verify(made, handed.old, registry).height == height
    with pytest.raises(InvalidProofFile, match="is not the one that was handed over"):
        verify(made, handed.network.genesis, registry)


def test_neither_genesis_verifies_a_third_chain(handed: Handed, registry: Registry) -> None:
    other = handed.network.genesis._replace(chain_id="other-1", app_hash=b"", app_state={})
    for proof in (handed.proof, handed.past.proof):
        with pytest.raises(InvalidProofFile, match="the genesis is of 'other-1'"):
            verify(proof, other, registry)


# Genesis and first state.


def twisted_genesis(genesis: Genesis, change: Callable[[Genesis], Genesis]) -> Genesis:
    return read_genesis(write_genesis(change(genesis)))


@pytest.mark.parametrize(
    "change",
    [
        lambda genesis: genesis._replace(app_hash=b"\x01" * 32),
        lambda genesis: genesis._replace(app_hash=b""),
        lambda genesis: genesis._replace(chain_id="sample-3"),
        lambda genesis: genesis._replace(time_ns=genesis.time_ns + 1),
        lambda genesis: genesis._replace(initial_height=genesis.initial_height + 1),
        lambda genesis: genesis._replace(validators=genesis.validators[:2]),
        lambda genesis: genesis._replace(app_state={**genesis.app_state, "hand_over": {}}),
        lambda genesis: genesis._replace(
            app_state={name: value for name, value in genesis.app_state.items() if name != "hand_over"}
        ),
    ],
)
def test_a_changed_genesis_begins_nothing(handed: Handed, change: Callable[[Genesis], Genesis]) -> None:
    with pytest.raises(InvalidGenesis, match="hand_over"):
        hand_over.of_genesis(twisted_genesis(handed.network.genesis, change))


def test_a_node_begins_with_the_state_of_its_genesis_only(handed: Handed, tmp_path: Path, registry: Registry) -> None:
    layout = Layout(tmp_path / "other")
    layout.data.mkdir(parents=True)
    save_genesis(layout.genesis, handed.network.genesis)
    with pytest.raises(SnapshotRefused, match="cannot be read"):
        prepare_ledger(layout, registry, lambda: 0)
    data = bytearray(handed.layout.first_state.read_bytes())
    data[len(data) // 2] ^= 1
    layout.first_state.write_bytes(bytes(data))
    with pytest.raises(SnapshotRefused):
        prepare_ledger(layout, registry, lambda: 0)
    assert not layout.ledger.exists()


# What is refused, and that nothing is changed then.


def hand(solo: Path, registry: Registry, validators: int = 3, **options: Any) -> Network:
    return hand_over_ledger(solo.with_name("net"), solo, registry, endpoints_here(validators), TIME_MS, **options)


def assert_untouched(solo: Path) -> None:
    assert not Layout(solo).handed_over.exists()
    assert not solo.with_name("net").exists()
    assert [path for path in solo.parent.iterdir() if path.name.startswith(".")] == []


def test_a_ledger_goes_over_once_and_starts_no_more(solo: Path, registry: Registry) -> None:
    hand(solo, registry)
    with pytest.raises(SettingsError, match="was handed over to a network"):
        prepare_ledger(Layout(solo), registry, lambda: 0)
    with pytest.raises(NotHandedOver, match="handed over already"):
        hand_over_ledger(solo.with_name("second"), solo, registry, endpoints_here(3), TIME_MS)
    assert not solo.with_name("second").exists()


def test_a_running_ledger_is_not_handed_over(solo: Path, registry: Registry) -> None:
    with NodeProcess(solo).await_ready(), pytest.raises(SettingsError, match="stop it first"):
        hand(solo, registry)
    assert_untouched(solo)


def test_a_ledger_that_was_killed_is_stopped_properly_first(solo: Path, registry: Registry) -> None:
    layout = Layout(solo)
    store = Store.open(layout.ledger, read_only=True)
    log = BlockLog(layout.block_log, store)
    log.put(store.height + 1, b"a block that was told of", b"")
    log.close()
    store.close()
    with pytest.raises(NotHandedOver, match="start it once more and stop it"):
        hand(solo, registry)
    assert_untouched(solo)


def test_a_ledger_that_never_ran_is_not_handed_over(tmp_path: Path, registry: Registry) -> None:
    SampleLedger(tmp_path / "solo", registry)
    with pytest.raises(NotHandedOver, match="never started"):
        hand(tmp_path / "solo", registry)
    assert_untouched(tmp_path / "solo")


def test_another_key_hands_nothing_over(solo: Path, registry: Registry) -> None:
    Layout(solo).validator_key.unlink()
    SoloSigner.create(Layout(solo).validator_key)
    with pytest.raises(NotHandedOver, match="whose key"):
        hand(solo, registry)
    assert_untouched(solo)


def test_a_network_is_not_handed_over(handed: Handed, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotHandedOver, match="one node alone"):
        hand_over_ledger(tmp_path / "net", handed.layout.directory, registry, endpoints_here(3), TIME_MS)


@pytest.mark.parametrize(
    ("validators", "members", "words"),
    [
        (4, (), "3 would run one"),
        (2, ("north-bank",), "1 would run one"),
        (2, ("north-bank", "north-bank"), "1 would run one"),
        (1, ("nobody",), "no member in good standing"),
    ],
)
def test_each_validator_is_run_by_a_member(
    solo: Path, registry: Registry, validators: int, members: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConsortiumError, match=words):
        hand(solo, registry, validators, members=members)
    assert_untouched(solo)


def test_members_are_chosen_by_name(solo: Path, registry: Registry) -> None:
    network = hand(solo, registry, 2, members=("south-bank", "lantern-works"))
    assert [made.member for made in network.validators] == ["south-bank", "lantern-works"]


def test_a_full_directory_is_left_alone(solo: Path, registry: Registry) -> None:
    solo.with_name("net").mkdir()
    (solo.with_name("net") / "mine").touch()
    with pytest.raises(LedgerExists):
        hand(solo, registry)
    assert not Layout(solo).handed_over.exists()
