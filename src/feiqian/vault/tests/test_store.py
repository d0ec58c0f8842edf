"""The vault's table: put once, read, erase for good."""

import pytest
from nacl.public import PrivateKey

from feiqian.vault.documents import DocumentRefused, seal
from feiqian.vault.store import DocumentErased, open_vault

KEY = PrivateKey(bytes([1]) * 32)
READERS = {"harbour-bank": bytes(KEY.public_key)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vault.db"


@pytest.fixture
def store(path):
    return open_vault(path)


def test_put_is_idempotent_and_get_returns_what_was_put(store, path):
    sealed = seal(b"remittance", READERS)
    assert store.put(sealed.envelope, "ada-works", 1000) == sealed.commitment
    assert store.put(sealed.envelope, "harbour-bank", 1500) == sealed.commitment
    expected = (sealed.commitment, sealed.envelope, "harbour-bank", "ada-works", 1000, None)
    assert store.get(sealed.commitment) == expected
    assert open_vault(path).get(sealed.commitment) == expected
    assert store.get(bytes(32)) is None


def test_garbage_is_not_kept(store):
    with pytest.raises(DocumentRefused):
        store.put(b"garbage", "ada-works", 0)


def test_what_is_erased_stays_erased(store):
    sealed = seal(b"remittance", READERS)
    store.put(sealed.envelope, "ada-works", 0)
    assert store.erase(sealed.commitment, 5)
    assert store.get(sealed.commitment) == (sealed.commitment, None, None, "ada-works", 0, 5)
    assert not store.erase(sealed.commitment, 6)
    assert not store.erase(bytes(32), 6)
    with pytest.raises(DocumentErased):
        store.put(sealed.envelope, "ada-works", 7)
    assert store.get(sealed.commitment).erased_at_ms == 5


def test_erased_bytes_are_in_no_file_of_the_database(store, path):
    sealed = seal(bytes(range(256)) * 64, READERS)
    store.put(sealed.envelope, "ada-works", 0)
    markers = [sealed.envelope[start : start + 24] for start in range(0, len(sealed.envelope) - 24, 500)]

    def found():
        files = [file.read_bytes() for file in path.parent.iterdir()]
        return [marker for marker in markers if any(marker in data for data in files)]

    assert found()
    store.erase(sealed.commitment, 1)
    assert found() == []


def test_what_is_forgotten_leaves_nothing_and_may_come_again(store, path):
    sealed = [seal(bytes([number]) * 5000, READERS) for number in range(3)]
    for each in sealed:
        store.put(each.envelope, "ada-works", 0)
    store.erase(sealed[2].commitment, 1)
    # A tombstone stays: it was on the ledger once.
    assert store.forget_all([each.commitment for each in sealed[1:]]) == 1
    assert [row.commitment for row in store.kept_after(b"", 10)] == [sealed[0].commitment]
    assert store.get(sealed[1].commitment) is None
    assert store.get(sealed[2].commitment).erased_at_ms == 1
    marker = sealed[1].envelope[1000:1100]
    assert not any(marker in file.read_bytes() for file in path.parent.iterdir())
    assert store.put(sealed[1].envelope, "ada-works", 5) == sealed[1].commitment
