"""Signature schemes against published vectors, and the edges where libraries differ."""

import pytest
from gmssl_pyx import sm3_hash

from feiqian.core.errors import MalformedKey, UnknownScheme
from feiqian.core.signatures import ED25519, P256, P256_ORDER, SM2, PublicKey, check_key, verify

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, section 7.1: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]

# The eight points of small order and the encodings of them that are not canonical, as libsodium lists them.
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]

# RFC 6979, A.2.5: the key of the P-256 examples, then (message, r, s) with SHA-256.
P256_KEY = "0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
RFC_6979_SAMPLE = (
    0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
    0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
)
RFC_6979_TEST = (
    0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
    0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
)

# GB/T 32918.5-2017, A.2: recommended curve, identity 1234567812345678, message "message digest".
SM2_KEY = (
    "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
SM2_SIGNATURE = (
    "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_ed25519_accepts_the_rfc_8032_vectors_and_no_neighbour(key: str, message: str, signature: str) -> None:
    public = PublicKey(ED25519, bytes.fromhex(key))
    check_key(public)
    data, sig = bytes.fromhex(message), bytes.fromhex(signature)
    assert verify(public, data, sig)
    assert not verify(public, data + b"\x00", sig)
    for place in range(64):
        assert not verify(public, data, sig[:place] + bytes([sig[place] ^ 1]) + sig[place + 1 :])


def test_ed25519_refuses_s_beyond_the_group_order() -> None:
    key, message, signature = (bytes.fromhex(text) for text in RFC_8032[1])
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    assert not verify(PublicKey(ED25519, key), message, signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("point", SMALL_ORDER)
@pytest.mark.parametrize("sign_bit", [0, 0x80])
def test_ed25519_refuses_small_order_keys(point: str, sign_bit: int) -> None:
    data = bytearray.fromhex(point)
    data[31] |= sign_bit
    with pytest.raises(MalformedKey):
        check_key(PublicKey(ED25519, bytes(data)))
    # With a small-order key, R = identity and S = 0 satisfy the cofactored equation for some messages.
    forged = bytes.fromhex(SMALL_ORDER[1]) + bytes(32)
    assert not any(verify(PublicKey(ED25519, bytes(data)), bytes([n]), forged) for n in range(32))


def test_ed25519_refuses_small_order_r() -> None:
    key, message, signature = (bytes.fromhex(text) for text in RFC_8032[1])
    for point in SMALL_ORDER:
        assert not verify(PublicKey(ED25519, key), message, bytes.fromhex(point) + signature[32:])


def test_ed25519_refuses_keys_that_are_not_reduced() -> None:
    p = 2**255 - 19
    for y in range(p, 2**255):
        with pytest.raises(MalformedKey):
            check_key(PublicKey(ED25519, y.to_bytes(32, "little")))


def test_p256_accepts_rfc_6979_with_low_s_only() -> None:
    public = PublicKey(P256, bytes.fromhex(P256_KEY))
    check_key(public)
    r, s = RFC_6979_TEST
    assert verify(public, b"test", raw(r, s))
    assert not verify(public, b"test", raw(r, P256_ORDER - s)), "the high twin of a low s"
    r, s = RFC_6979_SAMPLE
    assert not verify(public, b"sample", raw(r, s)), "the RFC's own s is high here"
    assert verify(public, b"sample", raw(r, P256_ORDER - s))


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER), (0, 0), (2**256 - 1, 1)])
def test_p256_refuses_r_and_s_out_of_range(r: int, s: int) -> None:
    assert not verify(PublicKey(P256, bytes.fromhex(P256_KEY)), b"test", raw(r, s))


@pytest.mark.parametrize("prefix", [0, 1, 4, 5, 6, 7, 255])
def test_p256_refuses_other_point_forms(prefix: int) -> None:
    with pytest.raises(MalformedKey):
        check_key(PublicKey(P256, bytes([prefix]) + bytes.fromhex(P256_KEY)[1:]))


def test_p256_refuses_an_x_off_the_curve() -> None:
    off_curve = 0
    for x in range(1, 40):
        try:
            check_key(PublicKey(P256, b"\x02" + x.to_bytes(32, "big")))
        except MalformedKey:
            off_curve += 1
    assert 5 < off_curve < 35, "about half of all x have no point"


def test_sm3_is_the_published_function() -> None:
    # GB/T 32905-2016, A.1.
    assert sm3_hash(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


def test_sm2_accepts_the_standards_example_and_no_neighbour() -> None:
    public = PublicKey(SM2, bytes.fromhex(SM2_KEY))
    check_key(public)
    signature = bytes.fromhex(SM2_SIGNATURE)
    assert verify(public, b"message digest", signature)
    assert not verify(public, b"message digesT", signature)
    for place in range(0, 64, 7):
        changed = signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :]
        assert not verify(public, b"message digest", changed)


def test_sm2_refuses_points_off_the_curve_and_r_s_out_of_range() -> None:
    key = bytes.fromhex(SM2_KEY)
    with pytest.raises(MalformedKey):
        check_key(PublicKey(SM2, key[:63] + bytes([key[63] ^ 1])))
    with pytest.raises(MalformedKey):
        check_key(PublicKey(SM2, bytes(64)))
    order = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
    for r, s in [(0, 1), (1, 0), (order, 1), (1, order), (1, order - 1)]:
        assert not verify(PublicKey(SM2, key), b"message digest", raw(r, s))


def test_keys_of_wrong_length_or_scheme_are_refused_and_never_verify() -> None:
    key = bytes.fromhex(RFC_8032[0][0])
    signature = bytes.fromhex(RFC_8032[0][2])
    with pytest.raises(UnknownScheme):
        check_key(PublicKey(9, key))
    with pytest.raises(MalformedKey):
        check_key(PublicKey(P256, key))
    assert not verify(PublicKey(9, key), b"", signature)
    assert not verify(PublicKey(SM2, key), b"", signature)
    assert not verify(PublicKey(ED25519, key), b"", signature[:63])
