"""Sign-in: only a fresh challenge, signed by a key of the account, opens a session; state is asked at every request."""

import base64
from typing import Any

import pytest

import feiqian.testing as testing
from feiqian.api.access import ANONYMOUS, Parties, Reader
from feiqian.api.problems import ChallengeInvalid
from feiqian.api.sessions import CHALLENGE_DOMAIN, CHALLENGE_LIFETIME_MS, COOKIE, Sessions
from feiqian.core.addresses import to_text
from feiqian.core.encoding import encode
from feiqian.core.signatures import SM2
from feiqian.index.reading import Scope
from feiqian.ledger.accounts import change_policy, set_administration
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.members import Member, set_member
from feiqian.testing.ledgers import SM2_STRANGERS, key_of

LIFETIME_MS = 1_800_000


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


class Desk:
    """Sessions over a small ledger in memory, with one account of `quay-bank` owned by the key `teller`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.bench = testing.Bench()
        self.bench.member("quay-bank", "bank", "regulator")
        self.teller = key_of("teller")
        self.account = self.bench.account("quay-bank", "till", single_key_policy(self.teller.public))
        self.sessions = self.new_sessions()

    def new_sessions(self, key: bytes = bytes(32)) -> Sessions:
        return Sessions(self, testing.CHAIN_ID, key, LIFETIME_MS, clock=self.clock)

    def get(self, key: bytes, /) -> bytes | None:
        return self.bench.state.changes().get(key)

    def scan(self, prefix: bytes, after: bytes = b""):
        raise AssertionError("sessions look single records up")

    def challenge(self) -> bytes:
        return encode(self.sessions.challenge(self.account, "gate.example"))

    def sign(self, challenge: bytes) -> bytes:
        return self.teller.sign(CHALLENGE_DOMAIN + challenge)

    def sign_in(self) -> str:
        challenge = self.challenge()
        return self.sessions.open(challenge, self.teller.public, self.sign(challenge)).token


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_signed_challenge_opens_a_session(desk: Desk) -> None:
    challenge = desk.challenge()
    opened = desk.sessions.open(challenge, desk.teller.public, desk.sign(challenge))
    assert opened.reader == ("quay-bank", desk.account, ("bank", "regulator"), True)
    assert opened.reader.is_regulator
    assert opened.expires_at_ms == desk.clock.ms + LIFETIME_MS
    assert desk.sessions.find(opened.token) == opened


def test_a_challenge_is_good_once(desk: Desk) -> None:
    challenge = desk.challenge()
    with pytest.raises(ChallengeInvalid, match="does not verify"):
        desk.sessions.open(challenge, desk.teller.public, bytes(64))
    with pytest.raises(ChallengeInvalid, match="used before"):
        desk.sessions.open(challenge, desk.teller.public, desk.sign(challenge))


def test_a_challenge_expires(desk: Desk) -> None:
    challenge = desk.challenge()
    desk.clock.ms += CHALLENGE_LIFETIME_MS
    with pytest.raises(ChallengeInvalid, match="expired"):
        desk.sessions.open(challenge, desk.teller.public, desk.sign(challenge))


def test_a_challenge_of_another_process_or_changed_is_refused(desk: Desk) -> None:
    other = desk.new_sessions()
    foreign = encode(other.challenge(desk.account, "gate.example"))
    mine = desk.challenge()
    for challenge in (foreign, mine[:-1] + bytes([mine[-1] ^ 1]), mine + b"\x00", b"", b"\xc1", mine[:20]):
        with pytest.raises(ChallengeInvalid, match="not a challenge of this gateway"):
            desk.sessions.open(challenge, desk.teller.public, desk.sign(challenge))


def test_every_changed_byte_of_a_challenge_is_refused(desk: Desk) -> None:
    challenge = desk.challenge()
    for place in range(len(challenge)):
        changed = bytearray(challenge)
        changed[place] ^= 0x01
        with pytest.raises(ChallengeInvalid):
            desk.sessions.open(bytes(changed), desk.teller.public, desk.sign(bytes(changed)))


def test_a_key_that_is_not_in_the_policy_opens_nothing(desk: Desk) -> None:
    stranger = key_of("stranger")
    challenge = desk.challenge()
    with pytest.raises(ChallengeInvalid, match="no policy of that account"):
        desk.sessions.open(challenge, stranger.public, stranger.sign(CHALLENGE_DOMAIN + challenge))


def test_a_transaction_signature_is_no_sign_in(desk: Desk) -> None:
    challenge = desk.challenge()
    with pytest.raises(ChallengeInvalid, match="does not verify"):
        desk.sessions.open(challenge, desk.teller.public, desk.teller.sign(challenge))


def test_a_session_ends_with_its_time(desk: Desk) -> None:
    token = desk.sign_in()
    desk.clock.ms += LIFETIME_MS - 1
    assert desk.sessions.find(token) is not None
    desk.clock.ms += 1
    assert desk.sessions.find(token) is None


def test_a_session_ends_by_signing_out_and_only_that_one(desk: Desk) -> None:
    first, second = desk.sign_in(), desk.sign_in()
    desk.sessions.end(first)
    assert desk.sessions.find(first) is None
    assert desk.sessions.find(second) is not None


def test_a_session_ends_when_its_key_leaves_the_policy(desk: Desk) -> None:
    token = desk.sign_in()
    change_policy(desk.bench.context(), desk.account, single_key_policy(key_of("successor").public))
    assert desk.sessions.find(token) is None


def test_a_suspended_member_has_no_sessions_and_roles_follow_state(desk: Desk) -> None:
    token = desk.sign_in()

    def change(roles: tuple[str, ...], *, is_suspended: bool) -> None:
        record = Member("Quay Bank", None, None, None, roles, None, is_suspended)
        set_member(desk.bench.context(), "quay-bank", record)

    change(("bank",), is_suspended=False)
    found = desk.sessions.find(token)
    assert found is not None
    assert not found.reader.is_regulator
    change(("bank",), is_suspended=True)
    assert desk.sessions.find(token) is None
    challenge = desk.challenge()
    with pytest.raises(ChallengeInvalid):
        desk.sessions.open(challenge, desk.teller.public, desk.sign(challenge))


def test_only_the_administration_account_reads_for_its_member_and_handing_it_on_counts_at_once(desk: Desk) -> None:
    office = desk.bench.account("quay-bank", "office", single_key_policy(desk.teller.public))
    tokens = {desk.account: desk.sign_in()}
    first, desk.account = desk.account, office
    tokens[office] = desk.sign_in()

    def read_by(account: bytes) -> tuple[bool, bool]:
        found = desk.sessions.find(tokens[account])
        assert found is not None
        return found.reader.is_administration, found.reader.is_regulator

    assert (read_by(first), read_by(office)) == ((True, True), (False, False))
    set_administration(desk.bench.context(), "quay-bank", office)
    assert (read_by(first), read_by(office)) == ((False, False), (True, True))


def test_an_account_is_party_to_its_own_and_its_administration_to_all_of_the_member_s() -> None:
    customer, desk = Reader("quay-bank", b"c" * 32), Reader("quay-bank", b"d" * 32, (), True)
    of_customer = Parties(frozenset(["quay-bank"]), frozenset([b"c" * 32]))
    of_other = Parties(frozenset(["quay-bank"]), frozenset([b"o" * 32]))
    of_stranger = Parties(frozenset(["moor-bank"]), frozenset([b"s" * 32]))
    of_member = Parties(frozenset(["quay-bank"]), frozenset())
    asked = (of_customer, of_other, of_member, of_stranger)
    assert [customer.may_read(parties) for parties in asked] == [True, False, False, False]
    assert [desk.may_read(parties) for parties in asked] == [True, True, True, False]
    assert (customer.scope, desk.scope) == (Scope("quay-bank", b"c" * 32), Scope("quay-bank"))


def test_a_token_cannot_be_made_or_changed(desk: Desk) -> None:
    token = desk.sign_in()
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 0x01
        assert desk.sessions.find(base64.urlsafe_b64encode(bytes(changed)).decode()) is None
    for text in ("", "x", "===", "ÿ", "a" * 5_000, token[:-1], token + "AAAA", None):
        assert desk.sessions.find(text) is None
    assert desk.new_sessions(key=b"\x01" * 32).find(token) is None
    assert desk.new_sessions().find(token) is not None


def test_signing_in_over_http_sets_a_cookie_that_scripts_cannot_read(world: Any) -> None:
    key = key_of("treasury")
    with world.client() as client:
        asked = client.post("/api/v1/session/challenge", json={"account": world.address("treasury")}).json()
        body = {
            "challenge": asked["challenge"],
            "scheme": 1,
            "key": key.public.data.hex(),
            "signature": key.sign(bytes.fromhex(asked["bytes_to_sign"])).hex(),
        }
        answer = client.post("/api/v1/session", json=body)
        assert answer.status_code == 200
        cookie = answer.headers["set-cookie"].lower()
        assert cookie.startswith(COOKIE)
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "path=/" in cookie
        # The client sends the cookie from here on.
        shown = client.get("/api/v1/session")
        assert (shown.status_code, shown.json()["member"]) == (200, "north-bank")
        assert shown.json()["token"] is None
        again = client.post("/api/v1/session", json=body)
        assert (again.status_code, again.json()["number"]) == (401, 11)
        assert client.delete("/api/v1/session").status_code == 204
        assert client.get("/api/v1/session").status_code == 401
    with world.gateway.client(answer.json()["token"]) as client:
        assert client.get("/api/v1/session").status_code == 401


def test_a_stranger_s_signature_writes_no_line_of_its_own_into_the_log(world: Any) -> None:
    with world.client() as client:
        for key in SM2_STRANGERS:
            asked = client.post("/api/v1/session/challenge", json={"account": world.address("treasury")}).json()
            body = {"challenge": asked["challenge"], "scheme": SM2, "key": key.data.hex(), "signature": "02" * 64}
            answer = client.post("/api/v1/session", json=body)
            assert (answer.status_code, "does not verify" in answer.text) == (401, True)
    assert "gateway" in {line["process"] for line in world.gateway.log_lines()}


def test_a_challenge_for_an_account_that_is_not_open_looks_like_any_other(world: Any) -> None:
    with world.client() as client:
        unknown = client.post("/api/v1/session/challenge", json={"account": to_text(bytes(32))})
        assert unknown.status_code == 200
        assert set(unknown.json()) == {"challenge", "bytes_to_sign", "chain_id", "audience", "expires_at_ms"}
        malformed = client.post("/api/v1/session/challenge", json={"account": "fq1nonsense"})
    assert (malformed.status_code, malformed.json()["codespace"], malformed.json()["number"]) == (400, "core", 4)


def test_an_anonymous_reader_is_party_to_nothing() -> None:
    assert not ANONYMOUS.may_read(Parties(frozenset(), frozenset()))
    assert not ANONYMOUS.may_read(Parties(frozenset(["north-bank", ""]), frozenset([bytes(32), b""])))
