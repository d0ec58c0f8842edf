"""`make demo`: makes a ledger of a few fictional institutions, plays a day of payment files through its public HTTP
interface, reports what happened, and says whether every check held. On a network each validator's gateway has its part.

It uses what a member would: key files, the client, the payments commands' own parts. It reads no state directly.
"""

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from feiqian.cli.demo_day import Day, FilePlan, Plan
from feiqian.cli.demo_report import Check, print_report
from feiqian.cli.demo_running import Running
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.addresses import to_text
from feiqian.execution.genesis import account_names
from feiqian.node.comet.testnet import FIRST_PORT

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "samples"
DEFAULT_DIRECTORY = Path("demo-ledger")
MARK = "made-by-make-demo"
KEY_NAME = re.compile(r'"key:([a-z0-9-]+)"')
PAID_ALREADY = "RJCT/AM05"
PORT = 8270
SHOWN = "aurora"
"""Whose desk in the console the demo offers."""
VAULT_SUFFIX = "-vault"
PASSPHRASE_FILE = "passphrase"
"""Beside the keys that it opens: these are of fictional people, for whoever tries the console."""


def main() -> None:
    """Play the day; exit 0 only if every check held."""
    options = _options()
    console = Console(highlight=False, soft_wrap=True)
    directory = _fresh(options.directory)
    passphrase = secrets.token_hex(16)
    os.environ["FEIQIAN_PASSPHRASE"] = passphrase
    (directory / PASSPHRASE_FILE).touch(0o600)
    (directory / PASSPHRASE_FILE).write_text(passphrase + "\n", "utf-8")
    _make_keys(directory / "keys", passphrase.encode())
    _make_files(directory / "files")
    ledgers = _make_ledgers(directory, options)
    running = Running(ledgers, {} if options.network else {"FEIQIAN_GATEWAY_PORT": str(options.port)})
    try:
        gateways = running.start()
        for member, address in gateways.items():
            console.print(f"{member or 'The ledger'} serves at {address}")
        with Day(directory, gateways, passphrase.encode(), console) as day:
            checks = _play(day, directory, ledgers)
            desk = day.gateway_of(SHOWN)
        all_held = print_report(console, checks)
        _tell_of_keys(console, directory, _genesis(ledgers), desk)
        if not options.once:
            console.print(f"\nThe console is open at {desk} until Ctrl-C.")
            running.wait()
    finally:
        running.stop()
    sys.exit(0 if all_held else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Plays a day of payments and proves it.")
    parser.add_argument("--once", action="store_true", help="stop after the report")
    parser.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="where the ledger goes")
    parser.add_argument("--network", type=int, default=0, help="on so many validators instead of the embedded ledger")
    parser.add_argument(
        "--port",
        type=int,
        help=f"the gateway's port, {PORT} if none, 0 for any; the first of a network's, {FIRST_PORT}",
    )
    options = parser.parse_args()
    if options.port is None:
        options.port = FIRST_PORT if options.network else PORT
    return options


def _make_ledgers(directory: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Make one ledger, or one for each validator, and return their directories by the member that runs each."""
    made_from = ("--from", str(SAMPLES / "consortium.toml"), "--keys", str(directory / "keys"))
    if not options.network:
        _done("init", str(directory / "ledger"), *made_from)
        return {"": directory / "ledger"}
    network = str(directory / "network")
    size = ("--validators", str(options.network), "--base-port", str(options.port))
    made = _done("testnet", network, *size, *made_from, "--json")
    return {each["member"]: Path(each["directory"]) for each in msgspec.json.decode(made)["validators"]}


def _genesis(ledgers: Mapping[str, Path]) -> Path:
    return next(iter(ledgers.values())) / "genesis.json"


def _tell_of_keys(console: Console, directory: Path, genesis: Path, desk: str) -> None:
    """Say how to be one of the fictional institutions: where, which account, which key, which passphrase."""
    names = account_names(load_genesis(genesis).app_state)
    at = os.path.relpath(directory)
    console.print(f"\nTo sign in to the console at {desk} as Aurora Motors:")
    console.print(f"  account     {to_text(names[SHOWN])}")
    console.print(f"  key         {at}/keys/aurora-maker.json")
    console.print(f"  passphrase  export FEIQIAN_PASSPHRASE=$(cat {at}/{PASSPHRASE_FILE})", markup=False)


def _play(day: Day, directory: Path, ledgers: Mapping[str, Path]) -> list[Check]:
    plan = msgspec.json.decode((directory / "files" / "expected.json").read_bytes(), type=Plan)
    day.open_books()
    checks = [_played(day, file, play) for file in plan.files for play in range(file.times)]
    checks.append(day.approve_pending())
    # Once approved, the payment that waited is paid: its file pays nothing either.
    checks += [_played(day, file, 1) for file in plan.files if any("PDNG" in status for status in file.outcomes)]
    checks += day.write_statements(plan)
    checks += day.check_supply()
    for name, path in day.write_proofs():
        verified = _feiqian("verify", str(path), "--genesis", str(_genesis(ledgers)), "--json")
        checks.append(Check("Proofs", name, verified.returncode == 0, f"{path.name} verified offline"))
    if len(ledgers) > 1:
        checks.append(day.check_blocks())
    return checks + [_audited(member, ledger) for member, ledger in ledgers.items()]


def _audited(member: str, ledger: Path) -> Check:
    audit = _feiqian("audit", str(ledger), "--json")
    found: dict[str, Any] = msgspec.json.decode(audit.stdout) if audit.stdout else {}
    said = f"{found.get('blocks')} blocks, {found.get('transactions')} transactions, {found.get('postings')} postings"
    whose = f" by {member}" if member else ""
    return Check("Audit", f"the whole ledger run again{whose}", audit.returncode == 0, said)


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


def _done(*arguments: str) -> bytes:
    """Run a command that must succeed and return what it printed."""
    done = _feiqian(*arguments)
    if done.returncode:
        sys.exit(done.stderr.decode().strip())
    return done.stdout


if __name__ == "__main__":
    main()
