"""What a wallet reads off a sign-in page, what it signs, and the line that it answers with."""

import base64
import hashlib
import time

import pytest
from nacl.signing import VerifyKey

from feiqian.core.addresses import to_text
from feiqian.core.encoding import encode
from feiqian.wallet.keys import KEY_CLASSES, Ed25519Key, generate_secret
from feiqian.wallet.sign_in import (
    CHALLENGE_DOMAIN,
    BadAnswer,
    ChallengeSuspicious,
    answer_text,
    read_answer,
    read_challenge,
    sign_challenge,
)
from feiqian.wallet.signing import build_transaction

ACCOUNT = hashlib.sha256(b"account").digest()
BODY = encode(("sample-1", "bank.example", ACCOUNT, b"n" * 16, 1_790_000_000_000, b"m" * 32))


def text_of(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def test_a_challenge_says_where_and_as_whom() -> None:
    said = read_challenge(text_of(BODY))
    assert said.bytes_to_sign == CHALLENGE_DOMAIN + BODY
    assert (said.chain_id, said.audience, said.account) == ("sample-1", "bank.example", to_text(ACCOUNT))
    assert said.expires_at_ms == 1_790_000_000_000


def test_nothing_but_a_challenge_can_be_signed_by_it() -> None:
    transaction = build_transaction("sample-1", "north-bank", [], time.time_ns() // 1_000_000)
    for body in (b"", b"\x00", BODY[:-1], BODY + b"\x00", encode(transaction)):
        with pytest.raises(ChallengeSuspicious):
            read_challenge(text_of(body))
    with pytest.raises(ChallengeSuspicious):
        read_challenge("not base64!")
    # Whatever is read stands behind the domain, so no signature over it could be a transaction's.
    assert read_challenge(text_of(BODY)).bytes_to_sign.startswith(b"feiqian/session-challenge/v1\x00")


@pytest.mark.parametrize("scheme", sorted(KEY_CLASSES))
def test_the_answer_comes_back_whole(scheme: str) -> None:
    key = KEY_CLASSES[scheme](generate_secret(scheme))
    said = read_challenge(text_of(BODY))
    signature = sign_challenge(said.bytes_to_sign, said.chain_id, said.audience, key)
    line = answer_text(key, signature)
    assert line.startswith(f"{scheme}:")
    # A terminal breaks long lines; what was copied off one is still read.
    assert read_answer(f" {line[:70]}\n{line[70:]}\r\n") == (key.public.scheme, key.public.data, signature)


def test_the_signature_is_over_domain_and_challenge() -> None:
    key = Ed25519Key(hashlib.sha256(b"key").digest())
    said = read_challenge(text_of(BODY))
    signature = sign_challenge(said.bytes_to_sign, said.chain_id, said.audience, key)
    VerifyKey(key.public.data).verify(b"feiqian/session-challenge/v1\x00" + BODY, signature)


@pytest.mark.parametrize(
    "text",
    ["", "ed25519", "ed25519:00:11", f"rsa:{'00' * 32}:{'11' * 64}", f"ed25519:{'0' * 65}:{'11' * 64}", "x" * 5000],
)
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(BadAnswer, match="SCHEME:KEY:SIGNATURE"):
        read_answer(text)


@pytest.mark.parametrize(
    ("chain_id", "host"), [("other-1", "bank.example"), ("sample-1", "evil.example"), ("sample-1", "bank.exampl")]
)
def test_a_challenge_for_another_ledger_or_host_is_not_signed(chain_id: str, host: str) -> None:
    key = Ed25519Key(bytes(range(32)))
    asked = read_challenge(text_of(BODY))
    with pytest.raises(ChallengeSuspicious, match="nothing was signed"):
        sign_challenge(asked.bytes_to_sign, chain_id, host, key)
    assert len(sign_challenge(asked.bytes_to_sign, asked.chain_id, asked.audience, key)) == 64
