"""CometBFT's own remote signer as a process: `cmd/priv_val_server`, built from the version that is pinned."""

import subprocess
import threading
from pathlib import Path
from typing import Self

from feiqian.testing.cometbft import ROOT

_PACKAGE = "github.com/cometbft/cometbft/cmd/priv_val_server"
_BUILD_S = 900
_GIVEN_UP = b"Max retries exceeded"
LOOK_S = 0.2


def build_signer() -> Path:
    """Return the program; a machine without Go fails here."""
    binary = ROOT / ".build" / "priv_val_server"
    command = ["go", "build", "-trimpath", "-mod=readonly", "-o", str(binary), _PACKAGE]
    built = subprocess.run(
        command, cwd=ROOT / "deploy" / "cometbft", capture_output=True, check=False, timeout=_BUILD_S
    )
    assert built.returncode == 0, built.stderr.decode()
    return binary


class RemoteSigner:
    """Signs with a key that lies in a directory of its own, by a socket at which CometBFT listens.

    What it signed last is in `state`; it refuses to sign anything else for the same height, round and step. It gives up
    for good when nobody listens for a second, without ending: then it is started again, as an operator would have it.
    When CometBFT ends it neither dials again nor ends: whoever ends that has to start this one anew.
    """

    def __init__(self, directory: Path, chain_id: str, address: str) -> None:
        """`directory` holds `key.json` and `state.json`, in CometBFT's form."""
        self.log = directory / "signer.log"
        self.state = directory / "state.json"
        self._command = [build_signer(), "-addr", address, "-chain-id", chain_id]
        self._command += ["-priv-key", directory / "key.json", "-priv-state", self.state]
        self._ending = threading.Event()
        self._keeper: threading.Thread | None = None

    def start(self) -> Self:
        """Keep it running."""
        self._ending.clear()
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()
        return self

    def kill(self) -> None:
        """Kill it."""
        self._ending.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None

    def _keep(self) -> None:
        while not self._ending.is_set():
            with self.log.open("wb") as log:
                process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            while not self._ending.wait(LOOK_S) and _GIVEN_UP not in self.log.read_bytes()[-1000:]:
                pass
            process.kill()
            process.wait()
