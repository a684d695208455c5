"""What the Python scripts beside this file share: a throw-away PostgreSQL cluster, waiting for a server, errors.

Only the standard library: it runs with whatever `python3` a machine has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

# How long a server may take to become ready, and to stop after SIGTERM with nobody connected; seconds.
START_LIMIT = 30
STOP_LIMIT = 30


def die(message: str) -> NoReturn:
    """Ends the script with a message."""
    sys.exit(f"error: {message}")


def wait_until(what: str, limit: float, holds: Callable[[], bool]) -> None:
    """Waits until a condition holds, and ends the script where it does not within the limit."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            die(f"{what}: not within {limit:.0f} s")
        time.sleep(0.05)


def is_ready(ops_addr: str) -> bool:
    """Whether a server says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://{ops_addr}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def clean_environment() -> dict[str, str]:
    """The environment without whatever would configure a server."""
    return {key: value for key, value in os.environ.items() if not key.upper().startswith("DOORWARD_")}


@contextmanager
def postgres(folder: Path, bin_folder: Path, port: int, password: str) -> Iterator[None]:
    """A PostgreSQL cluster on the loopback address with the user and the database `doorward`, gone afterwards."""
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder.mkdir()
    (folder / "password").write_text(password)
    if as_postgres:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "password", "postgres")

    def run(program: str, *arguments: str) -> None:
        command = [*as_postgres, str(bin_folder / program), *arguments]
        environment = {**clean_environment(), "PGPASSWORD": password}
        # Into a file: the cluster would hold a pipe open.
        with (folder.parent / "postgres.out").open("a") as out:
            done = subprocess.run(command, stdout=out, stderr=out, env=environment, cwd="/", check=False)
        if done.returncode != 0:
            die(f"{program} failed: {(folder.parent / 'postgres.out').read_text()}")

    data = str(folder / "data")
    login = ["-U", "doorward", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
    run("initdb", "-D", data, *login, "-E", "UTF8", "--no-locale", "--no-sync")
    # Nothing of this cluster is to outlive it: no syncing, no socket in a shared folder.
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    run("pg_ctl", "start", "-D", data, "-w", "-s", "-l", str(folder / "log"), "-o", options)
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "doorward", "doorward")
        yield
    finally:
        run("pg_ctl", "stop", "-D", data, "-m", "immediate", "-s")
