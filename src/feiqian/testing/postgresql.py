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
        user = _server_user(directory)
        data, port = directory / "data", _free_port()
        _run([f"{binaries}/initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"], user)
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"
        control = [f"{binaries}/pg_ctl", "-D", str(data), "-w", "-t", "60"]
        _run([*control, "-l", str(directory / "log"), "-o", settings, "start"], user)
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"], user)


def _binaries() -> str:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    on_path = shutil.which("initdb")
    assert found or on_path, "the tests need PostgreSQL's server: install the package `postgresql`"
    return os.path.dirname(found[-1] if found else str(on_path))


def _server_user(directory: Path) -> tuple[int, int] | None:
    """Return user and group to run the server as: root has to be another, whom the directory is given to."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return user.pw_uid, user.pw_gid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(command: list[str], user: tuple[int, int] | None) -> None:
    done = subprocess.run(
        command,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=None if user is None else user[0],
        group=None if user is None else user[1],
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout.decode()[-2000:]}"
