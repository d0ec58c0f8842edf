"""`make demo`: makes a ledger of a few fictional institutions, plays a day of payment files through its public HTTP
interface, reports what happened, and says whether every check held.

It uses what a member would: key files, the client, the payments commands' own parts. It reads no state directly.
"""

import argparse
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from feiqian.cli.demo_day import Day, FilePlan, Plan
from feiqian.cli.demo_report import Check, print_report
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.addresses import to_text
from feiqian.execution.genesis import account_names

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "samples"
DEFAULT_DIRECTORY = Path("demo-ledger")
MARK = "made-by-make-demo"
ADDRESS = re.compile(rb"https?://\S+")
KEY_NAME = re.compile(r'"key:([a-z0-9-]+)"')
PAID_ALREADY = "RJCT/AM05"
VAULT_SUFFIX = "-vault"
PASSPHRASE_FILE = "passphrase"
"""Beside the keys that it opens: these are of fictional people, for whoever tries the console."""


def main() -> None:
    """Play the day; exit 0 only if every check held."""
    parser = argparse.ArgumentParser(prog="make demo", description="Plays a day of payments and proves it.")
    parser.add_argument("--once", action="store_true", help="stop after the report")
    parser.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="where the ledger goes")
    parser.add_argument("--port", type=int, default=8270, help="the gateway's port; 0 asks the system for one")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    directory = _fresh(options.directory)
    passphrase = secrets.token_hex(16)
    os.environ["FEIQIAN_PASSPHRASE"] = passphrase
    (directory / PASSPHRASE_FILE).touch(0o600)
    (directory / PASSPHRASE_FILE).write_text(passphrase + "\n", "utf-8")
    _make_keys(directory / "keys", passphrase.encode())
    _make_files(directory / "files")
    _feiqian(
        "init", str(directory / "ledger"), "--from", str(SAMPLES / "consortium.toml"), "--keys", str(directory / "keys")
    )
    ledger = _Ledger(directory, options.port)
    try:
        address = ledger.start()
        console.print(f"The ledger serves at {address}")
        checks = _play(directory, address, passphrase.encode(), console)
        all_held = print_report(console, checks)
        _tell_of_keys(console, directory)
        if not options.once:
            console.print(f"\nThe console is open at {address} until Ctrl-C.")
            ledger.wait()
    finally:
        ledger.stop()
    sys.exit(0 if all_held else 1)


def _tell_of_keys(console: Console, directory: Path) -> None:
    """Say how to be one of the fictional institutions: which account, which key, which passphrase."""
    names = account_names(load_genesis(directory / "ledger" / "genesis.json").app_state)
    at = os.path.relpath(directory)
    console.print("\nTo sign in to the console as Aurora Motors:")
    console.print(f"  account     {to_text(names['aurora'])}")
    console.print(f"  key         {at}/keys/aurora-maker.json")
    console.print(f"  passphrase  export FEIQIAN_PASSPHRASE=$(cat {at}/{PASSPHRASE_FILE})", markup=False)


def _play(directory: Path, address: str, passphrase: bytes, console: Console) -> list[Check]:
    plan = msgspec.json.decode((directory / "files" / "expected.json").read_bytes(), type=Plan)
    with Day(directory, address, passphrase, console) as day:
        day.open_books()
        checks = [_played(day, file, play) for file in plan.files for play in range(file.times)]
        checks.append(day.approve_pending())
        # Once approved, the payment that waited is paid: its file pays nothing either.
        checks += [_played(day, file, 1) for file in plan.files if any("PDNG" in status for status in file.outcomes)]
        checks += day.write_statements(plan)
        checks += day.check_supply()
        proofs = day.write_proofs()
    genesis = str(directory / "ledger" / "genesis.json")
    for name, path in proofs:
        verified = _feiqian("verify", str(path), "--genesis", genesis, "--json")
        checks.append(Check("Proofs", name, verified.returncode == 0, f"{path.name} verified offline"))
    audit = _feiqian("audit", str(directory / "ledger"), "--json")
    found = msgspec.json.decode(audit.stdout) if audit.stdout else {}
    said = f"{found.get('blocks')} blocks, {found.get('transactions')} transactions, {found.get('postings')} postings"
    checks.append(Check("Audit", "the whole ledger run again", audit.returncode == 0, said))
    return checks


def _played(day: Day, file: FilePlan, play: int) -> Check:
    """Play one file and compare what came of it with what the samples were made to show."""
    is_again = play > 0
    before = day.money(file)
    result = day.play(file, play)
    if file.file_reason is not None:
        reason = None if result.refusal is None else result.refusal.reason
        held = reason == file.file_reason and day.money(file) == before
        return Check("Files", file.file, held, f"the whole file refused: {reason}; nothing moved")
    counts = Counter(
        outcome.status if outcome.reason is None else f"{outcome.status}/{outcome.reason}"
        for outcome in result.outcomes
    )
    said = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    if is_again:
        held = day.money(file) == before and set(counts) == {PAID_ALREADY}
        return Check("Files", f"{file.file} again", held, f"{said}; nothing was paid a second time")
    return Check("Files", file.file, dict(counts) == file.outcomes, said)


def _fresh(directory: Path) -> Path:
    """Return an empty directory; what an earlier demo left there is removed, anything else is not touched."""
    directory = directory.absolute()
    if directory.exists():
        if not (directory / MARK).exists():
            sys.exit(f"{directory} was not made by the demo; name another with --directory")
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / MARK).write_text(f"{uuid.uuid4()}\n")
    return directory


def _make_keys(folder: Path, passphrase: bytes) -> None:
    from feiqian.wallet.files import create

    names = sorted(set(KEY_NAME.findall((SAMPLES / "consortium.toml").read_text("utf-8"))))
    for name in names:
        scheme = "x25519" if name.endswith(VAULT_SUFFIX) else "ed25519"
        create(folder / f"{name}.json", scheme, passphrase, is_quick=True)


def _make_files(folder: Path) -> None:
    """Write the day's files with today's date: a payment is carried out on the day that it asks for."""
    today = datetime.now(UTC).date().isoformat()
    command = [sys.executable, str(SAMPLES / "make_samples.py"), "--date", today, "--to", str(folder)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def _feiqian(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "feiqian.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == 2:
        sys.exit(done.stderr.decode().strip())
    return done


class _Ledger:
    """`feiqian start`, as the demo's child."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._environment = {**os.environ, "FEIQIAN_GATEWAY_PORT": str(port)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and return its address."""
        with (self._directory / "ledger.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "feiqian.cli.main", "start", str(self._directory / "ledger")],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        found = ADDRESS.search(self._process.stdout.readline())
        if found is None:
            log_text = (self._directory / "ledger.log").read_text("utf-8", "replace")
            sys.exit(f"the ledger did not start:\n{log_text[-2000:]}")
        return found.group().decode()

    def wait(self) -> None:
        """Return at Ctrl-C, SIGTERM, or when the ledger ends by itself."""
        assert self._process is not None

        def stop(_number: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        try:
            self._process.wait()
        except KeyboardInterrupt:
            return

    def stop(self) -> None:
        """Stop it cleanly."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


if __name__ == "__main__":
    main()
