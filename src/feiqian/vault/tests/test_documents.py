"""Sealing: readers read, nobody else does, and no byte can be changed unnoticed."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.public import PrivateKey

from feiqian.core.encoding import encode
from feiqian.vault.documents import (
    MAX_CONTENT_BYTES,
    DocumentRefused,
    Envelope,
    WrappedKey,
    check_envelope,
    commitment_of,
    open_,
    seal,
)

BANK = PrivateKey(bytes([1]) * 32)
REGULATOR = PrivateKey(bytes([2]) * 32)
STRANGER = PrivateKey(bytes([3]) * 32)
READERS = {"regulator": bytes(REGULATOR.public_key), "harbour-bank": bytes(BANK.public_key)}
CONTENT = "Rechnung 4711, 李雷".encode()


def test_each_named_reader_reads_and_the_commitment_is_that_of_the_envelope():
    sealed = seal(CONTENT, READERS)
    assert open_(sealed.envelope, "harbour-bank", bytes(BANK), sealed.commitment) == CONTENT
    assert open_(sealed.envelope, "regulator", bytes(REGULATOR), sealed.commitment) == CONTENT
    # BIP 340's tagged hash, written out independently of core.hashing.
    tag = hashlib.sha256(b"feiqian/sealed-document/v1").digest()
    assert sealed.commitment == hashlib.sha256(tag + tag + sealed.envelope).digest()
    assert CONTENT not in sealed.envelope


def test_a_stranger_does_not_read():
    sealed = seal(CONTENT, READERS)
    with pytest.raises(DocumentRefused, match="not sealed for"):
        open_(sealed.envelope, "stranger", bytes(STRANGER))
    with pytest.raises(DocumentRefused, match="cannot be opened"):
        open_(sealed.envelope, "harbour-bank", bytes(STRANGER))


def test_the_same_content_sealed_twice_shares_nothing():
    first, second = seal(CONTENT, READERS), seal(CONTENT, READERS)
    assert first.commitment != second.commitment
    one, two = check_envelope(first.envelope), check_envelope(second.envelope)
    assert one.content_digest != two.content_digest
    assert one.ciphertext != two.ciphertext


def test_lengths_within_a_padding_block_do_not_show():
    assert len(seal(b"Li", READERS).envelope) == len(seal(b"Wolfeschlegelsteinhausen", READERS).envelope)


def test_every_changed_byte_is_refused():
    sealed = seal(CONTENT, {"harbour-bank": bytes(BANK.public_key)})
    for place in range(len(sealed.envelope)):
        changed = bytearray(sealed.envelope)
        changed[place] ^= 1
        with pytest.raises(DocumentRefused):
            open_(bytes(changed), "harbour-bank", bytes(BANK))
        with pytest.raises(DocumentRefused):
            open_(bytes(changed), "harbour-bank", bytes(BANK), sealed.commitment)


def test_another_envelope_of_the_same_content_is_not_the_committed_one():
    sealed, other = seal(CONTENT, READERS), seal(CONTENT, READERS)
    with pytest.raises(DocumentRefused, match="committed"):
        open_(other.envelope, "regulator", bytes(REGULATOR), sealed.commitment)


def test_a_reader_cannot_be_added_or_swapped_after_sealing():
    decoded = check_envelope(seal(CONTENT, READERS).envelope)
    swapped = (
        WrappedKey("harbour-bank", decoded.readers[1].sealed_key),
        WrappedKey("regulator", decoded.readers[0].sealed_key),
    )
    for readers in (swapped, decoded.readers[:1]):
        forged = Envelope(1, decoded.content_digest, readers, decoded.nonce, decoded.ciphertext)
        with pytest.raises(DocumentRefused):
            open_(encode(forged), "harbour-bank", bytes(BANK))


def test_a_sender_cannot_show_two_readers_two_contents():
    """A content digest that does not fit what the ciphertext holds is noticed after decryption."""
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt, sodium_pad
    from nacl.public import PublicKey, SealedBox

    wrapped = (WrappedKey("harbour-bank", SealedBox(PublicKey(bytes(BANK.public_key))).encrypt(bytes(32))),)
    header = encode((1, bytes(32), wrapped))
    ciphertext = crypto_aead_xchacha20poly1305_ietf_encrypt(
        sodium_pad(bytes(32) + b"other", 256), header, bytes(24), bytes(32)
    )
    with pytest.raises(DocumentRefused, match="not what the sender committed to"):
        open_(encode(Envelope(1, bytes(32), wrapped, bytes(24), ciphertext)), "harbour-bank", bytes(BANK))


@pytest.mark.parametrize(
    ("content", "readers"),
    [
        (bytes(MAX_CONTENT_BYTES + 1), READERS),
        (b"x", {}),
        (b"x", {f"reader-{place:02}": bytes(BANK.public_key) for place in range(17)}),
        (b"x", {"harbour-bank": b"short"}),
        (b"x", {"harbour-bank": bytes(32)}),
    ],
)
def test_what_cannot_be_sealed_is_refused(content, readers):
    with pytest.raises(DocumentRefused):
        seal(content, readers)


def test_the_largest_document_fits():
    sealed = seal(bytes(MAX_CONTENT_BYTES), READERS)
    assert len(open_(sealed.envelope, "regulator", bytes(REGULATOR))) == MAX_CONTENT_BYTES


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x90", b"\x95\x01\xc4\x00", bytes(2_000_000)])
def test_garbage_is_refused(data):
    with pytest.raises(DocumentRefused):
        check_envelope(data)


def test_trailing_fields_and_other_versions_are_refused():
    decoded = check_envelope(seal(CONTENT, READERS).envelope)
    fields = (decoded.content_digest, decoded.readers, decoded.nonce, decoded.ciphertext)
    for data in (encode((1, *fields, 0)), encode((2, *fields)), encode((1, decoded.content_digest, (), *fields[2:]))):
        with pytest.raises(DocumentRefused):
            check_envelope(data)
    unordered = encode((1, decoded.content_digest, decoded.readers[::-1], *fields[2:]))
    with pytest.raises(DocumentRefused, match="sorted"):
        check_envelope(unordered)


@given(st.binary(max_size=2000))
@settings(deadline=None, max_examples=50)
def test_any_content_comes_back(content):
    sealed = seal(content, READERS)
    assert open_(sealed.envelope, "harbour-bank", bytes(BANK), sealed.commitment) == content
    assert commitment_of(sealed.envelope) == sealed.commitment
