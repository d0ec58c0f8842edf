"""Ed25519 signatures as CometBFT accepts them (ZIP 215), for those few that libsodium refuses and only mischief makes.

CometBFT multiplies by the cofactor, so that a validator can make a signature which it counts and stricter rules do not.
Who refused that would stop, alone, where the network goes on.
"""

import hashlib

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_BASE_Y = 4 * pow(5, -1, _P) % _P

Point = tuple[int, int, int, int]
"""Extended coordinates X, Y, Z, T: x = X/Z, y = Y/Z, T = XY/Z."""

_NEUTRAL: Point = (0, 1, 1, 0)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether 64 bytes sign a message by ZIP 215: 8SB = 8R + 8kA, points in any encoding, S below the order."""
    scalar = int.from_bytes(signature[32:], "little")
    key, commitment = _decode(public_key), _decode(signature[:32])
    if key is None or commitment is None or scalar >= _L:
        return False
    hashed = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(hashed, "little") % _L
    base = _decode(_BASE_Y.to_bytes(32, "little"))
    assert base is not None
    x, y, z, t = _multiply(scalar, base)
    difference = _add((-x, y, z, -t), _add(commitment, _multiply(challenge, key)))
    x, y, z, _ = _multiply(8, difference)
    return x % _P == 0 and (y - z) % _P == 0


def _decode(data: bytes) -> Point | None:
    """Return the point of 32 bytes, whose y may be above the field's size and whose x may be a negative zero."""
    number = int.from_bytes(data, "little")
    y, sign = number % 2**255 % _P, number >> 255
    numerator, denominator = (y * y - 1) % _P, (_D * y * y + 1) % _P
    # RFC 8032, 5.1.3: the root of numerator/denominator, where there is one.
    x = numerator * pow(denominator, 3, _P) * pow(numerator * pow(denominator, 7, _P), (_P - 5) // 8, _P) % _P
    if denominator * x * x % _P != numerator:
        x = x * _ROOT_OF_MINUS_ONE % _P
        if denominator * x * x % _P != numerator:
            return None
    if x % 2 != sign:
        x = -x % _P
    return x, y, 1, x * y % _P


def _add(one: Point, other: Point) -> Point:
    """Return the sum. RFC 8032, 5.1.4."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    c, d = 2 * t1 * t2 * _D % _P, 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(scalar: int, point: Point) -> Point:
    total = _NEUTRAL
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total
