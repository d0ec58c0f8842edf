"""Keys sign what the core verifies; key files open with their passphrase only."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.signatures import P256_ORDER, check_key, verify
from feiqian.core.transactions import decode_signed, signing_bytes, transaction_id
from feiqian.wallet import files
from feiqian.wallet.keys import KEY_CLASSES, P256Key, generate_secret
from feiqian.wallet.signing import sign_body

SCHEMES = sorted(KEY_CLASSES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_fresh_key_signs_what_verifies(scheme: str) -> None:
    key = KEY_CLASSES[scheme](generate_secret(scheme))
    check_key(key.public)
    for length in (0, 1, 32, 1000):
        message = bytes(length)
        signature = key.sign(message)
        assert len(signature) == 64
        assert verify(key.public, message, signature)
        assert not verify(key.public, message + b"x", signature)


@given(st.binary(max_size=50))
def test_p256_signs_with_low_s_only(message: bytes) -> None:
    signature = P256Key((12345).to_bytes(32, "big")).sign(message)
    assert int.from_bytes(signature[32:], "big") <= P256_ORDER // 2


def test_every_signer_signs_the_same_id() -> None:
    keys = [KEY_CLASSES[scheme](generate_secret(scheme)) for scheme in SCHEMES]
    envelope = decode_signed(sign_body(b"a body", keys))
    assert len(envelope.signatures) == len(keys)
    message = signing_bytes(transaction_id(b"a body"))
    assert all(verify(each.key, message, each.signature) for each in envelope.signatures)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_file_opens_with_its_passphrase_only(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "maker.json"
    public = files.create(path, scheme, b"correct", is_quick=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files.public_text(path) == public
    key = files.open_signing_key(path, b"correct")
    assert public == f"{scheme}:{key.public.data.hex()}"
    assert verify(key.public, b"m", key.sign(b"m"))
    with pytest.raises(files.KeyFileError, match="passphrase"):
        files.open_signing_key(path, b"wrong")
    with pytest.raises(files.KeyFileError, match="never overwritten"):
        files.create(path, scheme, b"correct", is_quick=True)


def test_a_vault_key_is_no_signing_key(tmp_path: Path) -> None:
    path = tmp_path / "vault.json"
    public = files.create(path, "x25519", b"secret", is_quick=True)
    assert public == f"x25519:{bytes(files.open_vault_key(path, b'secret').public_key).hex()}"
    with pytest.raises(files.KeyFileError, match="signing takes"):
        files.open_signing_key(path, b"secret")


def test_damaged_files_are_refused_with_their_name_only(tmp_path: Path) -> None:
    path = tmp_path / "maker.json"
    files.create(path, "ed25519", b"secret", is_quick=True)
    text = path.read_text()
    other = tmp_path / "other.json"
    other.write_text(text.replace(files.public_text(path).split(":")[1], "00" * 32))
    with pytest.raises(files.KeyFileError, match="altered"):
        files.open_signing_key(other, b"secret")
    for damaged in ("", "{}", text.replace('"version": 1', '"version": 2'), text[:-20]):
        other.write_text(damaged)
        with pytest.raises(files.KeyFileError) as caught:
            files.open_signing_key(other, b"secret")
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(files.KeyFileError, match="No such file"):
        files.public_text(tmp_path / "absent.json")
    with pytest.raises(files.KeyFileError, match="known are"):
        files.create(tmp_path / "x", "rsa", b"secret")
