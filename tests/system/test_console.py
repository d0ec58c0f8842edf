"""The console in real Chromium over a real ledger: seen on a phone and a desktop, by keyboard, without JavaScript."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from feiqian.api.edge import discover_edges
from feiqian.client import Client
from feiqian.client.calls import PREFIX, Call
from feiqian.console.languages import Words, preferred, read_catalogue
from feiqian.core.addresses import to_text
from feiqian.core.encoding import Record
from feiqian.execution.genesis import account_names
from feiqian.execution.registry import discover
from feiqian.modules.assets.messages import Freeze, Issue, Transfer
from feiqian.modules.governance.messages import Propose, SuspendMember
from feiqian.modules.payments.edge.shapes import RejectedBody, RejectedPayment
from feiqian.modules.payments.messages import CreditTransfer, RegisterAlias
from feiqian.node.initialise import initialise
from feiqian.wallet import files
from feiqian.wallet.keys import SigningKey
from feiqian.wallet.signing import build_transaction, sign_transaction

ROOT = Path(__file__).resolve().parents[2]
CONSORTIUM = ROOT / "samples" / "consortium.toml"
FEIQIAN = (sys.executable, "-m", "feiqian.cli.main")
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PHONE = {"width": 390, "height": 844}
SMALL = {"width": 320, "height": 640}
TABLET = {"width": 912, "height": 1368}
LAPTOP = {"width": 1200, "height": 800}
DESKTOP = {"width": 1440, "height": 900}
PASSPHRASE = "only for these tests"
ANSWER_MS = 30_000
REJECTED = uuid.UUID("00000000-0000-4000-8000-00000000dead")
DEPOSIT, OTHER_DEPOSIT, RESERVES = "EUR.harbour-bank", "EUR.lotus-bank", "EUR.central"


LONG_NAMES = {
    '"penglai-1"': f'"{"l" * 50}"',
    '"Aurora Motors"': f'"{"A" * 140}"',
    '"麒麟示范银行"': f'"{"麒" * 140}"',
    "late with its reports": "r" * 140,
    "aurora-motors": "a" * 32,
    "harbour-bank": "h" * 32,
    "EUR.central": f"EUR.{'c' * 44}",
    "EUR.lotus-bank": f"EUR.{'l' * 44}",
    '"500000000.00"': '"46116860184273879.03"',
}
"""The longest that the ledger takes, and nowhere to break them."""


class Day:
    """The sample consortium, running, with a few payments made; `renamed` gives what it holds other names."""

    def __init__(self, directory: Path, renamed: Mapping[str, str] | None = None) -> None:
        self.ledger = directory / "ledger"
        self.keys = directory / "keys"
        self._renamed = renamed or {}
        text = self.named(CONSORTIUM.read_text("utf-8"))
        consortium = directory / "consortium.toml"
        consortium.write_text(text, "utf-8")
        self.deposit, self.other_deposit, self.reserves = map(self.named, (DEPOSIT, OTHER_DEPOSIT, RESERVES))
        names = sorted(set(re.findall(r'"key:([a-z-]+)"', text)))
        for name in names:
            scheme = "x25519" if name.endswith("-vault") else "ed25519"
            files.create(self.keys / f"{name}.json", scheme, PASSPHRASE.encode(), is_quick=True)
        genesis = initialise(
            self.ledger, consortium, discover(), lambda name: files.public_text(self.keys / f"{name}.json")
        )
        self.chain_id = genesis.chain_id
        self.addresses = account_names(genesis.app_state)
        self.members = {entry["name"]: entry["member"] for entry in genesis.app_state["accounts"]}
        self.process = subprocess.Popen(
            [*FEIQIAN, "start", str(self.ledger)],
            env={**os.environ, "FEIQIAN_GATEWAY_PORT": "0"},
            stdout=subprocess.PIPE,
            stderr=(directory / "log").open("wb"),
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def named(self, text: str) -> str:
        """Return a text of the sample with the names that things have here."""
        for name, other in self._renamed.items():
            text = text.replace(name, other)
        return text

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def key(self, name: str) -> SigningKey:
        return files.open_signing_key(self.keys / f"{name}.json", PASSPHRASE.encode())

    def address(self, account: str) -> str:
        return to_text(self.addresses[account])

    def submit(self, account: str, keys: Sequence[str], *messages: Record) -> str:
        """Sign, submit and see proved; return the transaction's id."""
        expires_at_ms = time.time_ns() // 1_000_000 + 300_000
        transaction = build_transaction(self.chain_id, self.members[account], messages, expires_at_ms)
        with Client(self.url) as client:
            outcome = client.submit([sign_transaction(transaction, [self.key(name) for name in keys])], wait="provable")
        return outcome[0].tx_id

    def prepare(self) -> None:
        """Give the banks reserves, Aurora and Brightwater account numbers, Aurora 50,000.00, governors a proposal."""
        at = self.addresses
        self.submit(
            "penglai",
            ["penglai"],
            Issue(at["penglai"], at["harbour"], self.reserves, 100_000_00, b""),
            Issue(at["penglai"], at["lotus"], self.reserves, 100_000_00, b""),
        )
        digest = hashlib.sha256
        self.submit(
            "harbour",
            ["harbour"],
            RegisterAlias(at["harbour"], self.deposit, digest(b"1").digest(), at["aurora"], digest(b"A").digest()),
            Issue(at["harbour"], at["aurora"], self.deposit, 50_000_00, b""),
        )
        self.submit(
            "lotus",
            ["lotus"],
            RegisterAlias(
                at["lotus"], self.other_deposit, digest(b"2").digest(), at["brightwater"], digest(b"B").digest()
            ),
        )

        asked = Propose(at["harbour"], SuspendMember("delta-logistics"), self.named("late with its reports"))
        self.reject()
        tx_id = self.submit("harbour", ["harbour"], asked)
        with Client(self.url) as client:
            client.sign_in(at["harbour"], self.key("harbour"))
            events = client.transaction(tx_id)["events"]
        self.proposal = next(event["proposal"] for event in events if event["type"] == "governance.Proposed")

    def pay(self, uetr: uuid.UUID, amount_minor: int) -> str:
        """Aurora pays Brightwater, across the two banks; return the transaction's id."""
        payment = CreditTransfer(
            debtor_account=self.addresses["aurora"],
            debtor_asset=self.deposit,
            creditor_account=self.addresses["brightwater"],
            creditor_asset=self.other_deposit,
            currency="EUR",
            amount_minor=amount_minor,
            uetr=uetr.bytes,
            instruction_id=hashlib.sha256(uetr.bytes).digest(),
            charge_bearer="SLEV",
            purpose="SUPP",
            requested_day=None,
            particulars=None,
        )
        return self.submit("aurora", ["aurora-maker"], payment)

    def fail(self) -> str:
        """Brightwater sends more than it has; return the refused transaction's id."""
        at = self.addresses
        return self.submit(
            "brightwater",
            ["brightwater"],
            Transfer(at["brightwater"], at["delta"], self.other_deposit, 99_999_999_00, b"more than there is"),
        )

    def reject(self) -> None:
        """Aurora's file is told that a payment is rejected, and another file that all of it is."""
        item = RejectedPayment(str(REJECTED), None, 1, "1" * 18, "EUR", "BE01", "ledger", 19, bytes(32).hex())
        whole = RejectedPayment(None, None, 20_000, "", "", "AM10", "payments.files", 11, None)
        with Client(self.url) as client:
            client.sign_in(self.addresses["aurora"], self.key("aurora-maker"))
            for name, rejected in (("F" * 35, item), ("AURORA-03", whole)):
                body = msgspec.json.encode(RejectedBody(self.address("aurora"), name, [rejected]))
                client.call(Call("POST", f"{PREFIX}/payments/rejected", {}, body))

    def answer(self, command: str, key: str) -> str:
        """Run the command of the sign-in page, with a key file in place of KEY.json; return what it prints."""
        arguments = command.replace("KEY.json", str(self.keys / f"{key}.json")).split()
        assert arguments[0] == "feiqian"
        done = subprocess.run(
            [*FEIQIAN, *arguments[1:]],
            env={**os.environ, "FEIQIAN_PASSPHRASE": PASSPHRASE},
            capture_output=True,
            text=True,
            check=True,
        )
        assert self.url.removeprefix("http://") in done.stderr
        assert self.chain_id in done.stderr
        return done.stdout.strip()

    def verify_offline(self, proof: Path) -> str:
        """Run `feiqian verify` on a file; return what it prints."""
        done = subprocess.run(
            [*FEIQIAN, "verify", str(proof), "--genesis", str(self.ledger / "genesis.json")],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    day = Day(tmp_path_factory.mktemp("console"))
    try:
        day.prepare()
        yield day
    finally:
        day.stop()


@pytest.fixture(scope="module")
def long_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """A day of the longest names and nearly the largest amounts, with a payment refused at length."""
    day = Day(tmp_path_factory.mktemp("long"), LONG_NAMES)
    try:
        day.prepare()
        at = day.addresses
        day.submit("harbour", ["harbour"], Issue(at["harbour"], at["aurora"], day.deposit, 46 * 10**17, b""))
        day.submit("harbour", ["harbour"], Freeze(at["harbour"], at["evergreen"], day.deposit, "SANCTIONS"))
        day.submit("aurora", ["aurora-checker"], Transfer(at["aurora"], at["evergreen"], day.deposit, 10**18, b""))
        yield day
    finally:
        day.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def browsing(chromium: Browser, day: Day, **options: Any) -> Iterator[Page]:
    """Open a page; nothing may go wrong in it, and nothing may be asked of another host."""
    context: BrowserContext = chromium.new_context(
        **{"base_url": day.url, "viewport": DESKTOP, "locale": "en-GB", **options}
    )
    context.set_default_timeout(ANSWER_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(day.url) else complaints.append(asked.url))
    try:
        yield page
        # Chromium itself reports a page's own status, such as 404, as an error of the console.
        assert [each for each in complaints if "the server responded with a status of" not in each] == []
    finally:
        context.close()


def sign_in(page: Page, day: Day, account: str, key: str) -> None:
    """Sign in as a person does: ask, run the command elsewhere, paste its answer."""
    page.goto("/sign-in")
    page.locator("#account").fill(day.address(account))
    page.locator("main form .main-button").click()
    page.locator("#answer").fill(day.answer(page.locator("#command").inner_text(), key))
    page.locator("main form .main-button").click()
    expect(page.locator(".who strong")).to_have_text(day.members[account])


def assert_fits(page: Page) -> None:
    """Nothing reaches past the right edge of the window, nor past the edge of its card."""
    assert page.viewport_size is not None
    width, window = page.evaluate("document.documentElement.scrollWidth"), page.viewport_size["width"]
    assert width <= window, f"{page.url} is {width} px wide in a window of {window}"
    assert page.evaluate(OUTSIDE_ITS_CARD) == [], page.url


OUTSIDE_ITS_CARD = """() => [...document.querySelectorAll('.card *')].filter(part => {
    const card = part.closest('.card');
    const isSeen = part.offsetParent && !part.closest('thead, .hidden-text');
    return isSeen && part.getBoundingClientRect().right > card.getBoundingClientRect().right - 8;
}).filter(part => part.matches('span, code, a, button, strong, time, dd, p, h2'))
    .map(part => part.outerHTML.slice(0, 120))
"""


def mark(page: Page) -> None:
    """Leave a mark that a reload would wipe away."""
    page.evaluate("window.unreloaded = true")


def assert_not_reloaded(page: Page) -> None:
    assert page.evaluate("window.unreloaded") is True


def pages_of(day: Day, tx_id: str, uetr: uuid.UUID) -> list[str]:
    """Every kind of page that Aurora may open."""
    aurora = day.address("aurora")
    return [
        *("/", "/blocks", "/blocks/2", "/transactions", f"/transactions/{tx_id}"),
        *("/accounts", f"/accounts/{aurora}", f"/accounts/{aurora}?asset={day.deposit}&from=2026-01-01"),
        *("/payments", f"/payments/{uetr}", f"/payments/{uuid.uuid4()}", f"/payments/{REJECTED}"),
        *("/assets", f"/assets/{day.deposit}"),
        *("/members", "/governance", f"/governance/{day.proposal}", "/proof", f"/proof/transaction/{tx_id}"),
        *(f"/proof/balance?address={aurora}&asset={day.deposit}", "/sign-in", "/nowhere"),
    ]


# --- the main job ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_sign_in_follow_a_payment_live_open_its_proof_and_verify_it(
    day: Day, chromium: Browser, tmp_path: Path, viewport: dict[str, int]
) -> None:
    """Aurora waits for a payment by its UETR; it settles, becomes provable, and its proof holds here and offline."""
    uetr = uuid.uuid4()
    with browsing(chromium, day, viewport=viewport) as page:
        sign_in(page, day, "aurora", "aurora-maker")
        page.goto(f"/payments/{uetr}")
        expect(page.locator("#payment")).to_contain_text("Not settled yet")
        mark(page)
        tx_id = day.pay(uetr, 1_234_56)
        expect(page.locator("#payment h1")).to_have_text(re.compile(r"1,234\.56\s+EUR"))
        expect(page.locator("#payment .pill", has_text="provable")).to_be_visible()
        assert_not_reloaded(page)

        page.get_by_role("link", name="Open its proof").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the file").click()
        proof = tmp_path / "payment.proof.json"
        download.value.save_as(proof)
        page.get_by_role("button", name="Verify", exact=True).click()
        expect(page.locator("h1")).to_have_text("Verified")
        expect(page.locator(".checks .held")).to_have_count(5)
        expect(page.locator("main")).to_contain_text(tx_id)
        expect(page.locator("main")).to_contain_text("feiqian verify FILE --genesis genesis.json")
        assert_fits(page)
    offline = day.verify_offline(proof)
    assert "verified     yes" in offline
    assert tx_id in offline


def test_rows_and_figures_appear_without_a_reload(day: Day, chromium: Browser) -> None:
    """The overview's height and the list of payments follow the ledger; a press on Live stops that, another resumes."""
    with browsing(chromium, day) as page:
        page.goto("/")
        before = page.locator("#height").inner_text()
        mark(page)
        day.pay(uuid.uuid4(), 11_11)
        expect(page.locator("#height")).not_to_have_text(before)
        assert_not_reloaded(page)

        sign_in(page, day, "aurora", "aurora-maker")
        page.goto("/payments")
        mark(page)
        uetr = uuid.uuid4()
        day.pay(uetr, 22_22)
        row = page.locator("#payments tr", has=page.locator(f'a[href="/payments/{uetr}"]'))
        expect(row).to_contain_text("−22.22")
        expect(row).to_have_class(re.compile("fresh"))

        page.get_by_role("button", name="Live").click()
        expect(page.get_by_role("button", name="Paused")).to_have_attribute("aria-pressed", "false")
        unseen = uuid.uuid4()
        day.pay(unseen, 33_33)
        expect(page.locator(f'a[href="/payments/{unseen}"]')).to_have_count(0)
        page.get_by_role("button", name="Paused").click()
        expect(page.locator(f'a[href="/payments/{unseen}"]')).to_be_visible()
        assert_not_reloaded(page)


def test_a_changed_proof_is_refused_with_the_step_that_broke(day: Day, chromium: Browser) -> None:
    tx_id = day.pay(uuid.uuid4(), 44_44)
    with browsing(chromium, day) as page:
        sign_in(page, day, "aurora", "aurora-maker")
        page.goto(f"/proof/transaction/{tx_id}")
        text = page.locator("textarea").input_value()
        changed = re.sub(
            r'("app_hash":")(.)', lambda found: found[1] + ("1" if found[2] == "0" else "0"), text, count=1
        )
        for content, step in [(changed, "Trail"), (text.replace('"version":1', '"version":2'), "File")]:
            assert content != text
            page.goto("/proof")
            page.locator("#proof").fill(content)
            page.get_by_role("button", name="Verify", exact=True).click()
            expect(page.locator("h1")).to_have_text("Refused")
            expect(page.locator(".checks .broken h3")).to_contain_text(step)
        page.goto("/proof")
        page.get_by_role("button", name="Verify", exact=True).click()
        expect(page.locator("main")).to_contain_text("choose a proof file, or paste its text")


def test_the_statement_has_running_balances_and_a_date_filter(day: Day, chromium: Browser) -> None:
    """
    + 100.00 issued             100.00
    -  23.45 sent to Delta       76.55
    """
    at = day.addresses
    day.submit("harbour", ["harbour"], Issue(at["harbour"], at["evergreen"], DEPOSIT, 100_00, b""))
    day.submit("evergreen", ["evergreen"], Transfer(at["evergreen"], at["delta"], DEPOSIT, 23_45, b""))
    with browsing(chromium, day) as page:
        sign_in(page, day, "evergreen", "evergreen")
        page.goto(f"/accounts/{day.address('evergreen')}")
        rows = page.locator("#statement tbody tr")
        expect(rows).to_have_count(2)
        for row, amount, balance in [(0, "−23.45", "76.55"), (1, "+100.00", "100.00")]:
            expect(rows.nth(row).locator("td").nth(3)).to_contain_text(amount)
            expect(rows.nth(row).locator("td").nth(4)).to_have_text(balance)
        expect(page.locator("#balances tbody")).to_contain_text("76.55")
        page.locator("#filter-from").fill("2999-01-01")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#statement .empty")).to_be_visible()
        page.locator("#filter-from").fill("2020-01-01")
        page.locator("#filter-until").fill("2999-01-01")
        page.get_by_role("button", name="Show").click()
        expect(rows).to_have_count(2)


def test_a_refusal_is_told_in_words(day: Day, chromium: Browser) -> None:
    tx_id = day.fail()
    for locale, words in [("en-GB", "Not enough available"), ("zh-CN", "可用余额不足")]:
        with browsing(chromium, day, locale=locale) as page:
            sign_in(page, day, "brightwater", "brightwater")
            page.goto(f"/transactions/{tx_id}")
            expect(page.locator(".verdict.bad h2")).to_have_text(words)
            expect(page.locator(".verdict.bad")).to_contain_text("19")


# --- who may see what -----------------------------------------------------------------------------------------------


def test_pages_show_no_more_than_the_reader_may_read(day: Day, chromium: Browser) -> None:
    tx_id = day.pay(uuid.uuid4(), 55_55)
    aurora = day.address("aurora")
    with browsing(chromium, day) as page:
        page.goto(f"/transactions/{tx_id}")
        expect(page.locator("main")).to_contain_text("Sign in to see that page.")
        sign_in(page, day, "delta", "delta")
        for path in (f"/transactions/{tx_id}", f"/accounts/{aurora}", f"/proof/transaction/{tx_id}"):
            answer = page.goto(path)
            assert answer is not None
            assert answer.status == 404
            expect(page.locator("h1")).to_have_text("Not found")
        page.goto(f"/payments?account={aurora}")
        expect(page.locator("h1")).to_have_text("Not found")
        page.goto(f"/assets/{DEPOSIT}")
        expect(page.locator("#holders")).to_have_count(0)
    with browsing(chromium, day) as page:
        sign_in(page, day, "regulator", "regulator")
        page.goto(f"/transactions/{tx_id}")
        expect(page.locator("main")).to_contain_text("55.55")
        page.goto(f"/assets/{DEPOSIT}")
        expect(page.locator("#holders")).to_contain_text("aurora-motors")


def test_sign_in_leads_back_and_a_wrong_answer_is_explained(day: Day, chromium: Browser) -> None:
    with browsing(chromium, day) as page:
        page.goto("/governance")
        assert page.url.startswith(f"{day.url}/sign-in?next=%2Fgovernance")
        page.locator("#account").fill("fq1nonsense")
        page.locator("main form .main-button").click()
        expect(page.get_by_role("alert")).to_contain_text("which bech32 does not use")
        page.locator("#account").fill(day.address("aurora"))
        page.locator("main form .main-button").click()
        wrong = day.answer(page.locator("#command").inner_text(), "delta")
        page.locator("#answer").fill(wrong)
        page.locator("main form .main-button").click()
        expect(page.get_by_role("alert")).to_contain_text("the key is in no policy of that account")
        page.locator("#answer").fill(day.answer(page.locator("#command").inner_text(), "aurora-checker"))
        page.locator("main form .main-button").click()
        expect(page.locator("h1")).to_have_text("Governance")
        cookie = next(each for each in page.context.cookies() if each.get("name") == "feiqian_session")
        assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator(".who")).to_contain_text("Not signed in")
        page.goto("/governance")
        expect(page.locator("h1")).to_have_text("Sign in")


def test_forms_of_other_sites_and_strange_ways_on_are_refused(day: Day) -> None:
    with httpx.Client(base_url=day.url, headers={"Accept": "text/html"}) as client:
        form = {"language": "zh", "next": "//elsewhere.example/"}
        for headers in ({}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}):
            for path in ("/language", "/sign-in", "/sign-in/challenge", "/sign-out", "/proof"):
                assert client.post(path, data=form, headers=headers).status_code == 403
        answer = client.post("/language", data=form, headers={"Origin": day.url})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_every_page_forbids_what_is_not_its_own(day: Day) -> None:
    with httpx.Client(base_url=day.url, headers={"Accept": "text/html"}) as client:
        for path in ("/", "/blocks", "/sign-in", "/proof", "/nowhere", "/accounts"):
            answer = client.get(path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
            assert "unsafe" not in policy
            assert not re.search(r"<style|<script(?! src=)| style=| on[a-z]+=", answer.text), path
            linked = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
            assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in linked), path
        missing = client.get("/nowhere", headers={"Accept": "application/json"})
        assert missing.headers["content-type"] == "application/problem+json"
        assert client.get("/nowhere").headers["content-type"].startswith("text/html")
        style = re.findall(r'href="(/console/static/console.css[^"]*)"', client.get("/").text)[0]
        assert "immutable" in client.get(style).headers["cache-control"]
        assert client.get("/console/static/nothing.css").status_code == 404


# --- every reader, every window -------------------------------------------------------------------------------------


WINDOWS = pytest.mark.parametrize("viewport", [DESKTOP, PHONE, SMALL], ids=["desktop", "phone", "small"])
MORE_WINDOWS = pytest.mark.parametrize(
    "viewport", [DESKTOP, LAPTOP, TABLET, PHONE, SMALL], ids=["desktop", "laptop", "tablet", "phone", "small"]
)
LOCALES = pytest.mark.parametrize("locale", ["zh-CN", "en-GB"])


def test_every_page_that_there_is_is_looked_at(day: Day) -> None:
    """Whoever adds a page adds it to `pages_of`, so that the tests below see it."""
    looked_at = [path.partition("?")[0] for path in pages_of(day, "ab" * 32, uuid.uuid4())]
    pages = [page for edge in discover_edges() for page in edge.pages if "GET" in page.http_methods]
    paths = [path for page in pages for path in page.paths if "/static/" not in path]
    assert len(paths) > 15
    for path in paths:
        form = re.compile(re.sub(r"{\w+:\w+}", "[^/]+", path))
        assert any(form.fullmatch(each) for each in looked_at), path


@MORE_WINDOWS
@LOCALES
def test_the_longest_names_and_amounts_fit(
    long_day: Day, chromium: Browser, viewport: dict[str, int], locale: str
) -> None:
    uetr = uuid.uuid4()
    tx_id = long_day.pay(uetr, 12_34)
    with browsing(chromium, long_day, viewport=viewport, locale=locale) as page:
        page.goto("/")
        assert_fits(page)
        for account, key in (("aurora", "aurora-maker"), ("harbour", "harbour")):
            sign_in(page, long_day, account, key)
            for path in pages_of(long_day, tx_id, uetr):
                page.goto(path)
                assert_fits(page)


@WINDOWS
@LOCALES
def test_every_page_fits_and_speaks_its_language(
    day: Day, chromium: Browser, viewport: dict[str, int], locale: str
) -> None:
    uetr = uuid.uuid4()
    tx_id = day.pay(uetr, 66_66)
    with browsing(chromium, day, viewport=viewport, locale=locale) as page:
        sign_in(page, day, "aurora", "aurora-maker")
        for path in pages_of(day, tx_id, uetr):
            page.goto(path)
            assert page.locator("html").get_attribute("lang") == {"zh-CN": "zh-CN", "en-GB": "en"}[locale]
            assert page.locator("h1").count() == 1, path
            assert_fits(page)
        assert page.locator("input:visible, select:visible, textarea:visible").evaluate_all(
            "fields => fields.every(field => field.labels.length || field.getAttribute('aria-label'))"
        )


def test_the_language_is_switched_by_hand_and_kept(day: Day, chromium: Browser) -> None:
    with browsing(chromium, day, locale="en-GB") as page:
        page.goto("/blocks")
        page.get_by_role("button", name="中文").click()
        assert page.url == f"{day.url}/blocks"
        expect(page.locator("h1")).to_have_text("区块")
        page.goto("/proof")
        expect(page.locator("h1")).to_have_text("证明")
        page.get_by_role("button", name="English").click()
        expect(page.locator("h1")).to_have_text("Proof")


def test_the_keyboard_is_enough(day: Day, chromium: Browser) -> None:
    """Skip link, menu, signing in and verifying, with Tab, Enter and typing alone; focus is always to be seen."""
    tx_id = day.pay(uuid.uuid4(), 77_77)
    with browsing(chromium, day) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        expect(page.locator(".skip")).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("#content")).to_be_focused()

        page.goto("/sign-in")
        reach(page, "#account")
        page.keyboard.type(day.address("aurora"))
        page.keyboard.press("Enter")
        expect(page.locator("#answer")).to_be_visible()
        answer = day.answer(page.locator("#command").inner_text(), "aurora-maker")
        reach(page, "#answer")
        page.keyboard.insert_text(answer)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".who strong")).to_have_text("aurora-motors")

        reach(page, '.menu a[href="/transactions"]')
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Transactions")
        reach(page, f'main a[href="/transactions/{tx_id}"]')
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Transaction")
        reach(page, f'main a[href="/proof/transaction/{tx_id}"]')
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Proof file")
        reach(page, "main form .main-button")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Verified")


def reach(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, seeing a ring around whatever has it on the way."""
    for _ in range(120):
        page.keyboard.press("Tab")
        has_ring, is_there = page.evaluate(
            """selector => {
                const focused = document.activeElement;
                const style = getComputedStyle(focused);
                const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                return [ring || focused === document.body, focused.matches(selector)];
            }""",
            selector,
        )
        assert has_ring, f"no focus ring on the way to {selector}"
        if is_there:
            return
    raise AssertionError(f"Tab never reached {selector}")


def test_pages_work_without_javascript(day: Day, chromium: Browser, tmp_path: Path) -> None:
    uetr = uuid.uuid4()
    tx_id = day.pay(uetr, 88_88)
    with browsing(chromium, day, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_role("button", name="中文").click()
        expect(page.locator("h1")).to_have_text("总览")
        page.get_by_role("button", name="English").click()
        sign_in(page, day, "aurora", "aurora-maker")
        for path in pages_of(day, tx_id, uetr):
            page.goto(path)
            expect(page.locator("h1")).to_be_visible()
        expect(page.locator("button.copy:visible, #live:visible")).to_have_count(0)
        page.goto("/payments")
        page.locator("#uetr").fill(str(uetr).upper())
        page.get_by_role("button", name="Follow").click()
        expect(page.locator("h1")).to_contain_text("88.88")
        page.get_by_role("link", name="Open its proof").click()
        proof = tmp_path / "payment.proof.json"
        proof.write_text(page.locator("textarea").input_value(), "utf-8")
        page.goto("/proof")
        page.locator("#file").set_input_files(proof)
        page.get_by_role("button", name="Verify", exact=True).click()
        expect(page.locator("h1")).to_have_text("Verified")
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator(".who")).to_contain_text("Not signed in")


def test_a_hash_is_copied_whole(day: Day, chromium: Browser) -> None:
    with browsing(chromium, day) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto("/blocks/1")
        whole = page.locator(".hash.whole code").first.inner_text()
        page.locator(".hash.whole button.copy").first.click()
        expect(page.locator("#said")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == whole
        assert len(whole) == 64


# --- words and colours ----------------------------------------------------------------------------------------------


def test_both_catalogues_have_the_same_keys_and_gaps() -> None:
    english, chinese = read_catalogue("en"), read_catalogue("zh")
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert text.strip(), key
        assert chinese[key].strip(), key
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", chinese[key])), key


def test_every_key_that_a_template_asks_for_is_there() -> None:
    catalogue = read_catalogue("en")
    templates = [*ROOT.glob("src/feiqian/console/templates/*.html")]
    templates += ROOT.glob("src/feiqian/modules/*/edge/templates/**/*.html")
    asked = {key for path in templates for key in re.findall(r"words\('([a-z_.]+)'\s*[),]", path.read_text("utf-8"))}
    assert len(asked) > 150
    assert asked <= set(catalogue)


def test_a_new_module_s_names_are_shown_as_they_are() -> None:
    words = Words("en", read_catalogue("en"))
    assert words.kind("bills.Discount") == "bills.Discount"
    assert words.field("face_minor") == "face minor"
    assert words.rule("bills", 7, "MaturityPassed") == "Maturity passed"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("de-DE,de;q=0.9,zh-TW;q=0.5,en;q=0.3", "zh"),
        ("fr", "en"),
        ("en;q=0,zh;q=0.1", "zh"),
        ("zh;q=nonsense", "en"),
    ],
)
def test_the_browser_s_language_is_taken(accepted: str, language: str) -> None:
    assert preferred(accepted) == language


TEXT_PAIRS = [
    *(("ink", ground) for ground in ("paper", "surface", "sunken", "accent-soft", "fresh", "bad-soft", "good-soft")),
    *(("muted", ground) for ground in ("paper", "surface", "sunken")),
    *(("accent", ground) for ground in ("paper", "surface", "sunken", "accent-soft")),
    *(("accent-ink", "accent"), ("good", "good-soft"), ("good", "surface"), ("good", "sunken"), ("bad", "bad-soft")),
    *(("wait", "wait-soft"), ("ink", "wait-soft"), ("seal-ink", "seal")),
]
EDGE_PAIRS = [("edge", "surface"), ("edge", "paper"), ("accent", "paper"), ("accent", "surface"), ("good", "surface")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme: str) -> None:
    """WCAG 2.2: 1.4.3 asks 4.5 of text, 1.4.11 asks 3 of the edges of what is operated."""
    style = (ROOT / "src/feiqian/console/static/console.css").read_text("utf-8")
    blocks = re.findall(r":root \{(.*?)\n\s*\}", style, re.DOTALL)
    light = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[0]))
    colours = light if scheme == "light" else light | dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[1]))
    assert len(light) >= 19
    for pairs, least in ((TEXT_PAIRS, 4.5), (EDGE_PAIRS, 3.0)):
        for over, under in pairs:
            found = contrast(colours[over], colours[under])
            assert found >= least, f"{over} on {under}: {found:.2f}"


def test_contrast_is_reckoned_as_wcag_does() -> None:
    """Published figures: black on white is 21; #767676 is the lightest grey that passes on white, at 4.54."""
    assert round(contrast("#000000", "#ffffff"), 2) == 21.0
    assert round(contrast("#767676", "#ffffff"), 2) == 4.54


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
