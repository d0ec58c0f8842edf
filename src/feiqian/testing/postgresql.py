"""A private PostgreSQL for tests: a fresh cluster on a free port of the loopback, gone when the test ends."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a server and give the URL of its database. Root gives it to another user, as the server demands."""
    binaries = _binaries()
    with tempfile.TemporaryDirectory(prefix="feiqian-pg-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        options = _other_user(directory)
        data, port = directory / "data", _free_port()
        _run(
            [f"{binaries}/initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"], **options
        )
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"
        control = [f"{binaries}/pg_ctl", "-D", str(data), "-w", "-t", "60"]
        _run([*control, "-l", str(directory / "log"), "-o", settings, "start"], **options)
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"], **options)


def _binaries() -> str:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    on_path = shutil.which("initdb")
    assert found or on_path, "the tests need PostgreSQL's server: install the package `postgresql`"
    return os.path.dirname(found[-1] if found else str(on_path))


def _other_user(directory: Path) -> dict[str, int]:
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(command: list[str], **options: int) -> None:
    done = subprocess.run(  # type: ignore[call-overload]
        command,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout.decode()[-2000:]}"
