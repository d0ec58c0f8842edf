"""Real gateway processes over a running node, for tests and benchmarks."""

import base64
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx

from feiqian.core.addresses import to_text
from feiqian.process.readiness import VARIABLE
from feiqian.testing.ledgers import ACCOUNTS, SampleLedger, consortium_text, key_of
from feiqian.testing.processes import ANSWER_S, read_log
from feiqian.wallet.sign_in import sign_challenge

REGULATOR = "watchful-authority"
REGULATOR_ACCOUNT = "watch"
SIBLING_ACCOUNT = "branch"

SIGN_IN = {
    "other": "lantern",
    "sibling": SIBLING_ACCOUNT,
    "party": "treasury",
    "administration": "issuance",
    "regulator": REGULATOR_ACCOUNT,
}
"""Kinds of reader of what the treasury of north-bank did, each with the account that it signs in for."""


def watched_consortium() -> str:
    """Return the sample consortium with a regulator, who holds one account, and a third account of north-bank."""
    text = consortium_text(accounts={**ACCOUNTS, SIBLING_ACCOUNT: "north-bank", REGULATOR_ACCOUNT: REGULATOR})
    return (
        text
        + f'\n[[members]]\nid = "{REGULATOR}"\nlegal_name = "Watchful Authority of Nowhere"\nroles = ["regulator"]\n'
    )


class GatewayProcess:
    """`python -m feiqian.api DIR` on a free port, its log in `DIR.gateway.log`. Leaving the `with` block kills it."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.directory = directory
        self.log = directory.with_name(directory.name + ".gateway.log")
        self.url = ""
        self._ready, theirs = os.pipe()
        environment = {f"FEIQIAN_GATEWAY_{name.upper()}": str(value) for name, value in {"port": 0, **settings}.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "feiqian.api", str(directory)],
                env={**os.environ, VARIABLE: str(theirs), **environment},
                pass_fds=(theirs,),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        os.close(theirs)

    def await_ready(self) -> Self:
        """Return when it serves; fail if it ends before."""
        readable, _, _ = select.select([self._ready], [], [], ANSWER_S)
        assert readable, "the gateway did not become ready"
        line = os.read(self._ready, 4096).decode()
        assert line, f"the gateway ended before it was ready: {self.log_text()[-3000:]}"
        self.url = line.split()[1]
        return self

    def await_indexed(self, height: int = 0) -> Self:
        """Return when node and index are ready for everything, and the index has at least this height."""
        deadline = time.monotonic() + ANSWER_S
        with self.client() as client:
            while (ready := client.get("/ready")).status_code != 200 or ready.json()["indexed_height"] < height:
                assert time.monotonic() < deadline, f"the gateway did not become ready: {self.log_text()[-3000:]}"
                time.sleep(0.02)
        return self

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """Return an HTTP client of it."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=ANSWER_S, **options)

    def sign_in(self, ledger: SampleLedger, account: str) -> str:
        """Sign in for an account of the sample ledger; return the token."""
        with self.client() as client:
            asked = client.post(
                "/api/v1/session/challenge", json={"account": to_text(ledger.addresses[account])}
            ).json()
            key = key_of(account)
            audience = self.url.removeprefix("http://")
            signature = sign_challenge(bytes.fromhex(asked["bytes_to_sign"]), asked["chain_id"], audience, key)
            body = {
                "challenge": asked["challenge"],
                "scheme": key.public.scheme,
                "key": key.public.data.hex(),
                "signature": signature.hex(),
            }
            answer = client.post("/api/v1/session", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["token"]

    def submit(self, *signed: bytes, wait: str = "committed", **parameters: Any) -> list[dict[str, Any]]:
        """Submit transactions and return their outcomes."""
        body = {"transactions": [base64.b64encode(each).decode() for each in signed]}
        with self.client() as client:
            answer = client.post("/api/v1/transactions", params={"wait": wait, **parameters}, json=body)
            assert answer.status_code in (200, 202), answer.text
            return answer.json()

    def terminate(self) -> int:
        """Ask it to stop; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ANSWER_S)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait(ANSWER_S)

    def log_text(self) -> str:
        """Return what it has logged."""
        return self.log.read_text("utf-8", "replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """Return what it has logged, line by line; fail where a line is not one JSON object."""
        return read_log(self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        os.close(self._ready)
