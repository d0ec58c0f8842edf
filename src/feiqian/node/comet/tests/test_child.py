"""CometBFT as a child: started again where that helps and never where it cannot, its words passed on, no orphan.

Most tests run a shell script that stands where CometBFT does, since the real one cannot be made to fail at will; the
texts by which it is understood are proved on the real one.
"""

import asyncio
import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.comet.server import AbciServer, Application
from feiqian.core.settings import SettingsError
from feiqian.execution.registry import Registry
from feiqian.node.comet import child as child_module
from feiqian.node.comet.child import CometChild
from feiqian.node.comet.testnet import endpoints_here, make_testnet
from feiqian.node.configuration import Layout
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import consortium_text
from feiqian.testing.ports import free_ports

WAIT_S = 60
STARTED = "echo started >> starts; "


class Run:
    """A child and what it has said."""

    def __init__(self, layout: Layout) -> None:
        self.said: list[dict[str, Any]] = []
        self.child = CometChild(layout, lambda line: self.said.append(json.loads(line)))

    def events(self) -> list[str]:
        return [line["event"] for line in self.said if line["process"] == "cometbft"]

    def until(self, met: Callable[[], object]) -> None:
        """Attend to it as the supervisor does until something is so."""
        ends_s = time.monotonic() + WAIT_S
        while not met():
            assert time.monotonic() < ends_s, self.said
            output = [] if self.child.output is None else [self.child.output]
            wait_s = self.child.wait_s()
            # A dead process is noticed by a signal where there is a supervisor, here by looking.
            select.select(output, [], [], 0.05 if wait_s is None else min(wait_s, 0.05))
            self.child.attend()


@pytest.fixture
def layout(tmp_path: Path, registry: Registry) -> Layout:
    (tmp_path / "consortium.toml").write_text(consortium_text(), "utf-8")
    network = make_testnet(
        tmp_path / "net", tmp_path / "consortium.toml", registry, endpoints_here(1, free_ports(4)), 1_700_000_000_000
    )
    layout = Layout(network.validators[0].directory)
    layout.data.mkdir()
    return layout


Start = Callable[[str], Run]


@pytest.fixture
def start(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Give a function that starts a shell script as CometBFT; it runs in an empty folder, and its arguments are $@."""
    runs: list[Run] = []

    def start_script(script: str) -> Run:
        folder = tmp_path / "script"
        folder.mkdir()
        path = folder / "cometbft"
        path.write_text(f"#!/bin/bash\ncd {folder}\n{script}\n", "utf-8")
        path.chmod(0o755)
        monkeypatch.setattr(child_module, "find_binary", lambda _: path)
        monkeypatch.setattr(child_module, "FIRST_PAUSE_S", 0.05)
        monkeypatch.setattr(child_module, "GRACE_S", 0.2)
        run = Run(layout)
        runs.append(run)
        run.child.start()
        return run

    yield start_script
    for run in runs:
        run.child.stop(0)


def starts(layout: Layout) -> int:
    """Return how often the script was started."""
    path = layout.directory.parent.parent / "script" / "starts"
    return path.read_text("utf-8").count("started") if path.exists() else 0


def test_its_lines_are_passed_on_in_the_form_of_the_other_logs(start: Start) -> None:
    run = start(
        """echo '{"_msg":"Started node","level":"info","module":"main","ts":"2026-01-01T00:00:00Z"}'
        echo 'a plain line' >&2; echo '{"_msg":'; head -c 200000 /dev/zero | tr '\\0' x; exec sleep 600"""
    )
    run.until(lambda: len(run.said) >= 5)
    assert run.said[0] == {
        "process": "cometbft",
        "module": "main",
        "event": "Started node",
        "level": "info",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    assert run.events()[1:3] == ["a plain line", '{"_msg":']
    # A line without an end does not gather in memory.
    assert all(set(event) == {"x"} and len(event) <= 2**17 for event in run.events()[3:])


def test_it_is_started_with_its_home_and_without_variables_that_would_overrule_its_file(
    start: Start, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CMTHOME", "CMT_PROXY_APP", "CMTPROXY_APP", "TMHOME"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("KEPT", "here")
    run = start('echo "$@"; env | sort | grep -E "^(CMT|TMHOME|KEPT)"; exec sleep 600')
    run.until(lambda: len(run.said) == 2)
    assert run.events() == [f"start --home {layout.comet}", "KEPT=here"]


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 0", "exit 1", "echo 'panic: runtime error'; exit 2"])
def test_when_it_ends_for_a_reason_that_may_pass_it_is_started_again(start: Start, layout: Layout, end: str) -> None:
    run = start(f"{STARTED} [ $(wc -l < starts) -ge 3 ] && echo steady && exec sleep 600; {end}")
    run.until(lambda: "steady" in run.events())
    assert starts(layout) == 3
    assert not run.child.failure
    pauses = [line["starts_again_s"] for line in run.said if line["event"] == "cometbft_ended"]
    assert pauses == [0.05, 0.1]


def test_it_is_given_up_when_it_never_runs(start: Start, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LONGEST_PAUSE_S", 0.05)
    run = start(f"{STARTED} exit 7")
    run.until(lambda: run.child.failure)
    assert starts(layout) == child_module.MOST_STARTS == 10
    assert run.child.failure == "CometBFT ended with status 7, 10 times in a row; its last log lines say why"


def test_after_a_steady_run_the_pauses_begin_anew(
    start: Start, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "STEADY_S", 0.0)
    run = start(f"{STARTED} exit 7")
    run.until(lambda: starts(layout) > 12)
    assert not run.child.failure
    assert {line["starts_again_s"] for line in run.said if line["event"] == "cometbft_ended"} == {0.05}


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            "ERROR: failed to create node: error on replay: app block height (9) is higher than core (4)",
            "bring the newest one back",
        ),
        ("ERROR: failed to create node: app block height (2) is too far below block store base (7)", "an older copy"),
        ("panic: block.AppHash does not match AppHash after replay. Got 0A, expected 0B.", "feiqian audit"),
        ("ERROR: error in config file: error in section [rpc]: x", "mend [comet] in feiqian.toml"),
        ("ERROR: failed to start node: listen tcp 127.0.0.1:1: bind: address already in use", "p2p_listen, rpc_port"),
    ],
)
def test_when_it_says_that_it_cannot_go_on_it_is_not_started_again(
    start: Start, layout: Layout, words: str, advice: str
) -> None:
    run = start(f"{STARTED} echo '{words}' >&2; seq -f 'goroutine %g' 2000 >&2; exit 2")
    run.until(lambda: run.child.failure)
    assert starts(layout) == 1
    assert advice in run.child.failure
    assert run.child.failure.startswith("CometBFT ended with status 2: ")
    assert run.events()[0] == words


def test_what_it_logs_of_others_is_not_taken_for_its_own_reason(start: Start, layout: Layout) -> None:
    quoted = json.dumps({"_msg": "peer said", "level": "error", "err": "app block height (9) is higher than core"})
    run = start(f"{STARTED} [ $(wc -l < starts) -ge 2 ] && exec sleep 600; echo '{quoted}'; exit 2")
    run.until(lambda: starts(layout) == 2)
    assert not run.child.failure


@pytest.mark.parametrize("said", ["CONSENSUS FAILURE!!!", "State sync failed"])
@pytest.mark.parametrize("after", ["exec sleep 600", "exit 0"])
def test_when_it_lives_on_and_does_nothing_any_more_that_is_its_end(
    start: Start, layout: Layout, said: str, after: str
) -> None:
    line = json.dumps({"_msg": said, "level": "error", "err": "x"})
    run = start(f"{STARTED} echo '{line}'; {after}")
    run.until(lambda: run.child.failure)
    assert "the error above says why" in run.child.failure
    assert starts(layout) == 1


def test_a_full_disk_is_named_as_the_reason(start: Start) -> None:
    err = "write comet/data/cs.wal/wal: no space left on device"
    line = json.dumps({"_msg": "CONSENSUS FAILURE!!!", "level": "error", "err": err})
    run = start(f"{STARTED} echo '{line}'; exec sleep 600")
    run.until(lambda: run.child.failure)
    assert run.child.failure.endswith("make room and start again")


def test_stopping_waits_for_its_last_words_and_leaves_nothing(start: Start) -> None:
    run = start("trap 'seq 100000; exit 0' TERM; echo up; while true; do sleep 0.01; done")
    run.until(lambda: run.events() == ["up"])
    run.child.stop(WAIT_S)
    assert run.events()[-1] == "100000"
    assert run.child.output is None


def test_one_that_does_not_stop_is_killed_with_all_below_it(start: Start) -> None:
    run = start("trap '' TERM; sleep 600 & echo $! $$; wait; while true; do sleep 600; done")
    run.until(lambda: run.said)
    descriptors = [os.pidfd_open(int(pid)) for pid in run.events()[0].split()]
    run.child.stop(0.1)
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], WAIT_S)[0], "it lives on"
        os.close(descriptor)


def test_without_a_binary_or_with_wrong_settings_nothing_is_started(layout: Layout) -> None:
    text = layout.settings.read_text("utf-8")
    layout.settings.write_text(text.replace("[gateway]", 'binary = "/nowhere/cometbft"\n[gateway]'), "utf-8")
    with pytest.raises(SettingsError, match="make cometbft"):
        CometChild(layout, print)


class Ledger:
    """An application whose blocks change nothing. It keeps its third block's proposer waiting: two blocks are whole."""

    def __init__(self) -> None:
        self.height, self.app_hash = 0, b""
        self.commits = threading.Semaphore(0)
        self.rests = threading.Semaphore(0)
        self.goes_on = threading.Event()

    async def info(self, request: pb.RequestInfo) -> pb.ResponseInfo:
        return pb.ResponseInfo(last_block_height=self.height, last_block_app_hash=self.app_hash)

    async def prepare_proposal(self, request: pb.RequestPrepareProposal) -> pb.ResponsePrepareProposal:
        if request.height > 2:
            self.rests.release()
            await asyncio.to_thread(self.goes_on.wait, WAIT_S)
        return pb.ResponsePrepareProposal()

    async def finalize_block(self, request: pb.RequestFinalizeBlock) -> pb.ResponseFinalizeBlock:
        self.height, self.app_hash = request.height, b"a" * 32
        return pb.ResponseFinalizeBlock(app_hash=self.app_hash)

    async def commit(self, request: pb.RequestCommit) -> pb.ResponseCommit:
        self.commits.release()
        return pb.ResponseCommit()

    async def process_proposal(self, request: pb.RequestProcessProposal) -> pb.ResponseProcessProposal:
        return pb.ResponseProcessProposal(status=pb.ResponseProcessProposal.ACCEPT)

    def __getattr__(self, name: str) -> Any:
        async def answer(request: Any) -> Any:
            return getattr(pb, type(request).__name__.replace("Request", "Response"))()

        return answer


@pytest.fixture
def ledger(layout: Layout) -> Iterator[Ledger]:
    """Give an application that CometBFT of this directory reaches."""
    application = Ledger()
    loop = asyncio.new_event_loop()
    server = AbciServer(layout.abci_socket, cast(Application, application), fault=lambda where, error: None)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield application
    application.goes_on.set()
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(WAIT_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def real(layout: Layout) -> Iterator[Run]:
    require_cometbft()
    run = Run(layout)
    yield run
    run.child.stop(WAIT_S)


def test_the_real_one_goes_on_after_a_kill(real: Run, ledger: Ledger) -> None:
    real.child.start()
    real.until(lambda: ledger.commits.acquire(blocking=False))
    os.kill(children_of(os.getpid(), "cometbft")[0], signal.SIGKILL)
    real.until(lambda: any(line["event"] == "cometbft_ended" for line in real.said))
    real.until(lambda: ledger.rests.acquire(blocking=False))
    assert not real.child.failure
    assert ledger.height == 2


@pytest.mark.parametrize(
    ("height", "app_hash", "said"),
    [
        (1_000, b"a" * 32, "the ledger is ahead of CometBFT's data"),
        (2, b"b" * 32, "is not what the network agreed on"),
        (1, b"a" * 32, ""),
        (0, b"", ""),
    ],
    ids=["ahead", "another", "behind", "empty"],
)
def test_the_real_ones_words_at_the_handshake_are_understood(
    real: Run, ledger: Ledger, layout: Layout, height: int, app_hash: bytes, said: str
) -> None:
    """What a ledger lacks is told to it again; one that is ahead, or another one, is the end at once."""
    real.child.start()
    real.until(lambda: ledger.rests.acquire(blocking=False))
    real.child.stop(0)
    ledger.height, ledger.app_hash = height, app_hash
    ledger.goes_on.set()
    again = Run(layout)
    try:
        again.child.start()
        again.until(lambda: again.child.failure or ledger.rests.acquire(blocking=False))
        assert said in again.child.failure
        assert bool(again.child.failure) == bool(said)
        assert not any(line["event"] == "cometbft_ended" for line in again.said)
    finally:
        again.child.stop(0)


def children_of(pid: int, name: str) -> list[int]:
    """Return the processes below one, by the name of their program."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for each in (task / "children").read_text().split():
            if Path(f"/proc/{each}/comm").read_text().strip() == name:
                found.append(int(each))
    return found
