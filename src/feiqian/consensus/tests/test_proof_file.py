"""Proof files from a real store verify; whatever is changed in them is refused, and the step that broke is named."""

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from feiqian.consensus.genesis_file import ConsensusParams, Genesis, GenesisValidator
from feiqian.consensus.light import KnownBlock, light_block
from feiqian.consensus.proof_file import InvalidProofFile, Verified, verify
from feiqian.consensus.proving import Unprovable, prove_record, prove_result
from feiqian.consensus.solo import SoloSigner, make_archive_row
from feiqian.core.encoding import AmountMinor, Record, encode
from feiqian.execution.blocks import Block, Result
from feiqian.execution.tables import RESULTS, ResultsRoot, height_key
from feiqian.state.staging import tree_leaf
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import Table
from feiqian.state.tree import MemoryTree, root_of

START_MS = 1_767_225_600_000


class Balance(Record):
    amount_minor: AmountMinor


BALANCES = Table("sample.balances", Balance)
OPEN_BALANCES = Table("sample.open", Balance, is_plain=True)
TABLES = {table.name: table for table in (BALANCES, OPEN_BALANCES, RESULTS)}
PLAIN = frozenset(name for name, table in TABLES.items() if table.is_plain)


class Ledger(NamedTuple):
    store: Store
    genesis: Genesis
    tx_ids: tuple[bytes, ...]


def result_of(tx_id: bytes) -> bytes:
    return encode(Result("", 0, "", 7, (tx_id,)))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A solo ledger of six blocks, each with three transactions that change a few of forty balances."""
    signer = SoloSigner(b"\x05" * 32)
    validator = GenesisValidator(signer.public_key, 10, "node-a")
    genesis = Genesis(START_MS * 1_000_000, "sample-1", 1, ConsensusParams(4_194_304), (validator,), b"", {})
    first: dict[bytes, bytes | None] = {
        table.prefix + bytes([number]): encode(Balance(number * 100))
        for table in (BALANCES, OPEN_BALANCES)
        for number in range(40)
    }
    path = tmp_path_factory.mktemp("ledger")
    store = Store.create(
        path, "sample-1", 1, first, START_MS, plain_tables=PLAIN, map_bytes=1 << 26, reserve_bytes=1 << 20
    )
    tx_ids: list[bytes] = []
    previous = None
    for height in range(1, 7):
        ids = [hashlib.sha256(f"{height}/{number}".encode()).digest() for number in range(3)]
        results = tuple((tx_id, result_of(tx_id)) for tx_id in ids)
        changes: dict[bytes, bytes | None] = {
            BALANCES.prefix + bytes([height * 3 + number]): encode(Balance(height)) for number in range(3)
        }
        changes[RESULTS.prefix + height_key(height)] = encode(ResultsRoot(root_of(dict(results))))
        time_ms = START_MS + height * 1_000
        previous = make_archive_row(
            genesis,
            signer,
            previous,
            height=height,
            time_ms=time_ms,
            bundles=(),
            app_hash_before=store.app_hash,
            results_before=(),
            app_version=1,
        )
        block = encode(Block(height, time_ms, (), ()))
        store.commit(store.stage(HeightWrites(height, time_ms, block, results, changes, (), previous)))
        tx_ids.extend(ids)
    yield Ledger(store, genesis, tuple(tx_ids))
    store.close()


def a_record(ledger: Ledger) -> bytes:
    return prove_record(ledger.store, ledger.genesis, BALANCES, b"\x09")


def a_plain_record(ledger: Ledger) -> bytes:
    return prove_record(ledger.store, ledger.genesis, OPEN_BALANCES, b"\x09")


def an_absence(ledger: Ledger) -> bytes:
    return prove_record(ledger.store, ledger.genesis, BALANCES, b"\xee")


def a_result(ledger: Ledger) -> bytes:
    return prove_result(ledger.store, ledger.genesis, ledger.tx_ids[4])


KINDS = [a_record, a_plain_record, an_absence, a_result]
Make = Callable[[Ledger], bytes]


def check(data: bytes, ledger: Ledger, known: KnownBlock | None = None) -> Verified:
    return verify(data, ledger.genesis, TABLES, known)


def test_a_record(ledger: Ledger) -> None:
    proved = check(a_record(ledger), ledger)
    assert (proved.kind, proved.chain_id, proved.height, proved.block_height) == ("record", "sample-1", 5, None)
    assert (proved.table, proved.key, proved.record) == ("sample.balances", b"\x09", Balance(3))
    assert proved.app_hash == ledger.store.app_hash_at(5)
    assert proved.trail_heights == (6,)
    assert proved.signatures == 1
    assert proved.header_time_ns == (START_MS + 6_000) * 1_000_000
    assert proved.trusted == f"the genesis of sample-1 (SHA-256 {ledger.genesis.digest().hex()})"


def test_a_plain_record(ledger: Ledger) -> None:
    data = a_plain_record(ledger)
    assert check(data, ledger).record == Balance(900)
    value = json.loads(data)
    assert bytes.fromhex(value["key"]) == b"sample.open/\x09"
    assert value["value"] == value["record"]["value"]


def test_an_absence(ledger: Ledger) -> None:
    proved = check(an_absence(ledger), ledger)
    assert (proved.kind, proved.key, proved.value, proved.record) == ("absence", b"\xee", None, None)


def test_a_result(ledger: Ledger) -> None:
    proved = check(a_result(ledger), ledger)
    assert (proved.kind, proved.key, proved.block_height) == ("result", ledger.tx_ids[4], 2)
    assert proved.value == result_of(ledger.tx_ids[4])


def test_a_past_height(ledger: Ledger) -> None:
    data = prove_record(ledger.store, ledger.genesis, BALANCES, b"\x09", height=2)
    assert check(data, ledger).record == Balance(900)
    assert check(data, ledger).height == 2
    data = prove_record(ledger.store, ledger.genesis, BALANCES, b"\x09", height=0)
    assert check(data, ledger).trail_heights == (1,)


def test_from_a_known_block(ledger: Ledger) -> None:
    row = ledger.store.archive_row(3)
    assert row is not None
    known = KnownBlock(3, light_block(row).header.hash())
    data = prove_record(ledger.store, ledger.genesis, BALANCES, b"\x09", known_height=3)
    proved = check(data, ledger, known)
    assert proved.trail_heights == (3, 6)
    assert proved.trusted == f"block 3 of sample-1 (header hash {known.hash.hex()})"
    with pytest.raises(InvalidProofFile, match="trail: height 3: the trail does without this block"):
        check(data, ledger)
    with pytest.raises(InvalidProofFile, match="trail: height 3: the header's hash is not the trusted"):
        check(data, ledger, KnownBlock(3, b"\x00" * 32))
    with pytest.raises(InvalidProofFile, match="not at trusted block 3"):
        check(a_record(ledger), ledger, known)


def test_what_is_not_provable(ledger: Ledger) -> None:
    with pytest.raises(Unprovable, match="height 6 is not provable yet"):
        prove_record(ledger.store, ledger.genesis, BALANCES, b"\x09", height=6)
    with pytest.raises(Unprovable, match="block 6, which is not provable yet"):
        prove_result(ledger.store, ledger.genesis, ledger.tx_ids[-1])
    with pytest.raises(Unprovable, match="no transaction"):
        prove_result(ledger.store, ledger.genesis, b"\x00" * 32)


def test_another_genesis_proves_nothing(ledger: Ledger) -> None:
    stranger = GenesisValidator(SoloSigner(b"\x06" * 32).public_key, 10, "node-x")
    with pytest.raises(InvalidProofFile, match="trail: height 6: not more than 1/3"):
        verify(a_record(ledger), ledger.genesis._replace(validators=(stranger,)), TABLES)
    with pytest.raises(InvalidProofFile, match="file: chain_id 'sample-1'; the genesis is of 'sample-2'"):
        verify(a_record(ledger), ledger.genesis._replace(chain_id="sample-2"), TABLES)


def test_a_plain_record_is_not_passed_off_as_absent(ledger: Ledger) -> None:
    # No record of this table stands in the tree as a digest, so that "its digest" can be proved absent at any time.
    as_digests = Table("sample.open", Balance)
    data = prove_record(as_if_empty(ledger), ledger.genesis, as_digests, b"\x09")
    with pytest.raises(InvalidProofFile, match="record: key is not that of the record's table and key"):
        check(data, ledger)


def as_if_empty(ledger: Ledger) -> Any:
    """The store, but asked for a plain record it proves the absence of the record's digest."""
    at = 5
    digest, _ = tree_leaf(OPEN_BALANCES.prefix + b"\x09", b"", is_plain=False)
    leaves_ = dict(
        tree_leaf(key, record, is_plain=key.partition(b"/")[0].decode() in PLAIN)
        for key in [key for key, _ in ledger.store.scan(b"")]
        if (record := ledger.store.get_at(at, key)) is not None
    )
    tree = MemoryTree(leaves_)
    assert tree.root == ledger.store.app_hash_at(at)

    class Liar:
        def __getattr__(self, name: str) -> Any:
            return getattr(ledger.store, name)

        def prove(self, height: int, key: bytes) -> tuple[None, bytes]:
            return None, tree.prove(digest)

    return Liar()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value of the JSON that holds no other, with the way to it."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from leaves(inner, (*path, name))
    else:
        yield path, value


def changes(value: Any) -> Iterator[Any]:
    """Other values of the same shape, and of another."""
    if value is None:
        yield from ("", "00", 0)
        return
    if isinstance(value, int):
        yield from (value + 1, value - 1, str(value))
    else:
        yield from (change_first(value), change_last(value), value[:-1], value + value[-1:], value + " ", "")
        yield value.swapcase()
    yield None


def change_first(text: str) -> str:
    return next(character for character in "1a2B" if character != text[:1]) + text[1:]


def change_last(text: str) -> str:
    return text[:-1] + next(character for character in "1a2B" if character != text[-1:])


def put(value: Any, path: tuple[Any, ...], leaf: Any) -> bytes:
    changed = copy.deepcopy(value)
    at = changed
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = leaf
    return compact(changed)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("make", KINDS)
def test_every_leaf_counts(make: Make, ledger: Ledger) -> None:
    data = make(ledger)
    value = json.loads(data)
    assert compact(value) == data
    tried = 0
    for path, leaf in leaves(value):
        for other in changes(leaf):
            if other != leaf:
                tried += 1
                with pytest.raises(InvalidProofFile) as caught:
                    check(put(value, path, other), ledger)
                assert caught.value.step in ("file", "trail", "record", "results tree", "state tree"), path
    assert tried > 200


@pytest.mark.parametrize("make", KINDS)
def test_every_byte_of_a_proof_and_signature_counts(make: Make, ledger: Ledger) -> None:
    value = json.loads(make(ledger))
    for path, leaf in leaves(value):
        if path[0] != "proofs" and path[-1] not in ("signature", "value"):
            continue
        if path[0] == "proofs" or path[-1] == "signature":
            raw = base64.b64decode(leaf)
            others = (raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw)))
            texts = [base64.b64encode(other).decode() for other in others]
            texts.append(base64.b64encode(raw + b"\x00").decode())
        elif leaf is not None and path[0] != "trail":
            raw = bytes.fromhex(leaf)
            texts = [(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).hex() for at in range(len(raw))]
        else:
            continue
        for text in texts:
            with pytest.raises(InvalidProofFile):
                check(put(value, path, text), ledger)


def objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from objects(inner, (*path, name))


def replace_object(value: Any, path: tuple[Any, ...], new: dict[str, Any]) -> bytes:
    return put(value, path, new) if path else compact(new)


@pytest.mark.parametrize("make", KINDS)
def test_keys_added_removed_and_reordered(make: Make, ledger: Ledger) -> None:
    value = json.loads(make(ledger))
    for path, found in objects(value):
        changed = [{**found, "extra": ""}, dict(reversed(found.items()))]
        changed += [{name: inner for name, inner in found.items() if name != left_out} for left_out in found]
        for new in changed:
            if compact(new) != compact(found):
                with pytest.raises(InvalidProofFile) as caught:
                    check(replace_object(value, path, new), ledger)
                assert caught.value.step == "file" or (caught.value.step == "trail" and path[-1] == "version")


@pytest.mark.parametrize("make", KINDS)
def test_lists_longer_and_shorter(make: Make, ledger: Ledger) -> None:
    value = json.loads(make(ledger))
    for name in ("proofs", "trail"):
        for new in ([], value[name][:-1], value[name] + value[name][-1:], value[name] * 3):
            with pytest.raises(InvalidProofFile):
                check(put(value, (name,), new), ledger)
    block = value["trail"][0]
    signatures = block["signed_header"]["commit"]["signatures"]
    validators = block["validator_set"]["validators"]
    for path, new in (
        (("trail", 0, "signed_header", "commit", "signatures"), signatures * 2),
        (("trail", 0, "signed_header", "commit", "signatures"), []),
        (("trail", 0, "validator_set", "validators"), validators * 2),
        (("trail", 0, "validator_set", "validators"), []),
    ):
        with pytest.raises(InvalidProofFile, match="trail"):
            check(put(value, path, new), ledger)


@pytest.mark.parametrize("make", KINDS)
def test_other_writings_of_the_same_values(make: Make, ledger: Ledger) -> None:
    data = make(ledger)
    value = json.loads(data)
    others = [
        json.dumps(value).encode(),
        json.dumps(value, indent=1).encode(),
        data + b"\n",
        b" " + data,
        b"\xef\xbb\xbf" + data,
        data[:-1] + b',"version":1}',
        b'{"version":1,' + data[1:],
        data.replace(b"sample-1", b"s\\u0061mple-1", 1),
        data.replace(b'"height":5', b'"height":5.0', 1),
        data.replace(b'"height":5', b'"height":5e0', 1),
        data[:-1],
        data + data,
        b"",
        b"null",
        b"[" * 100_000,
        b"\xff" + data,
    ]
    for other in others:
        with pytest.raises(InvalidProofFile, match=r"^file: "):
            check(other, ledger)


def test_parts_of_two_sound_files_do_not_mix(ledger: Ledger) -> None:
    first = json.loads(prove_record(ledger.store, ledger.genesis, BALANCES, b"\x09", height=2))
    second = json.loads(a_record(ledger))
    for name in first:
        if first[name] != second[name]:
            with pytest.raises(InvalidProofFile):
                check(put(second, (name,), first[name]), ledger)


def test_a_record_is_not_passed_off_as_another_tables(ledger: Ledger) -> None:
    value = json.loads(a_record(ledger))
    with pytest.raises(InvalidProofFile, match="record: key is not that of the record's table and key"):
        check(put(value, ("record", "table"), "sample.open"), ledger)
    with pytest.raises(InvalidProofFile, match=r"knows no table 'sample\.other'"):
        check(put(value, ("record", "table"), "sample.other"), ledger)


def test_an_existing_record_is_not_passed_off_as_absent(ledger: Ledger) -> None:
    value = json.loads(a_record(ledger))
    value["kind"], value["value"], value["record"]["value"] = "absence", None, None
    with pytest.raises(InvalidProofFile, match="state tree: an existence proof"):
        check(compact(value), ledger)
    absent = json.loads(an_absence(ledger))
    value["proofs"] = absent["proofs"]
    with pytest.raises(InvalidProofFile, match="state tree: key"):
        check(compact(value), ledger)


def test_a_state_record_is_not_passed_off_as_a_result(ledger: Ledger) -> None:
    value = json.loads(a_plain_record(ledger))
    value["kind"] = "result"
    with pytest.raises(InvalidProofFile, match="record: a result needs"):
        check(compact(value), ledger)
