"""PostgreSQL servers for tests: a primary and its synchronous standby, and the fixtures that give them out.

Use the fixture ``database`` for a new, empty database of a pair of servers that the whole run shares. A test
that stops, kills or configures servers takes ``postgresql_pair``, which is its own. Both need the tool
``postgresql`` of ``tests/tools.py``. A test with one of these fixtures gets the mark ``process``.

PostgreSQL refuses to run as root: then the servers run as the user ``postgres``, or as ``nobody``.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.tools import POSTGRESQL, need

USER = "leveret"
STANDBY = "standby"  # the application name of the standby, for synchronous_standby_names
START = 60  # most seconds for a start, on a busy machine
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "wal_keep_size": "256MB",  # a standby that was stopped finds what it missed
    "hot_standby": "on",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
}


class PostgresError(Exception):
    """A server that did not start, with what it wrote."""


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unprivileged_user() -> str | None:
    """Return the user to run PostgreSQL as; None for the user of this process."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


class PostgresServer:
    """One server with its data in ``directory``, which another object creates and removes."""

    def __init__(self, directory: Path, *, settings: dict[str, str]) -> None:
        self.directory = directory
        self.port = free_port()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str = "postgres") -> str:
        """Return the URL of a database of this server."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        """What the server has written."""
        path = self.directory.with_suffix(".log")
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """Return a connection that commits every statement."""
        return psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=10)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Execute a statement; return its rows, none if it has no result."""
        with closing(self.connect(database)) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def initialize(self) -> None:
        """Create the data directory of a new primary."""
        options = ["--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8", "--locale=C"]
        run_program("initdb", *options, "-D", str(self.directory))

    def copy_from(self, primary: "PostgresServer") -> None:
        """Create the data directory of a standby by a backup of the running primary."""
        origin = f"host=127.0.0.1 port={primary.port} user={USER} application_name={STANDBY}"
        options = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        run_program("pg_basebackup", *options, "-d", origin, "-D", str(self.directory))

    def configure(self, **settings: str) -> None:
        """Change settings of the running server, and reload them."""
        with closing(self.connect()) as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def start(self, *, wait: bool = True) -> None:
        """Start the server; with ``wait`` return once it accepts connections. Raises PostgresError."""
        settings = SETTINGS | self._settings | {"port": str(self.port)}
        settings["unix_socket_directories"] = str(self.directory.parent)
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        with self.directory.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [POSTGRESQL / "postgres", "-D", self.directory, *options],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_as_user(),
            )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return once the server accepts connections. Raises PostgresError."""
        end = time.monotonic() + START
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if not self.running or time.monotonic() > end:
                    raise PostgresError(f"{error}\n{self.log}") from None
            time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``fast``, or ``immediate``, as after a crash of the server."""
        if self._process is not None:
            if self.running:
                os.kill(self.pid, signal.SIGCONT)
                os.kill(self.pid, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self._process.wait(START)
            self._process = None

    def kill(self) -> None:
        """Kill all processes of the server, with SIGKILL."""
        assert self._process is not None
        self._signal(signal.SIGKILL)
        self._process.wait(START)
        self._process = None

    def pause(self) -> None:
        """Stop all processes of the server for a while, with SIGSTOP: it hangs."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the processes of the server continue after ``pause``."""
        self._signal(signal.SIGCONT)

    def promote(self) -> None:
        """Make a standby a primary."""
        self.execute("SELECT pg_promote()")

    def _signal(self, number: int) -> None:
        """Signal the postmaster, then its processes, which have process groups of their own."""
        postmaster = self.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
        if number == signal.SIGCONT:
            os.kill(postmaster, number)
        else:
            os.kill(postmaster, signal.SIGSTOP)  # it starts no other processes meanwhile
        for child in children.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)
        if number == signal.SIGKILL:
            os.kill(postmaster, number)


class PostgresPair:
    """A running primary with a running synchronous standby, in a temporary directory."""

    def __init__(self, *, fsync: bool = False, standby: bool = True, **settings: str) -> None:
        """``fsync`` is for tests of what survives a crash of the machine, ``standby=False`` for one server
        alone. ``settings`` are those of postgresql.conf for both servers.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="leveret-postgresql-"))
        given = {"fsync": "on" if fsync else "off", **settings}
        self.primary = PostgresServer(self.directory / "primary", settings=given)
        self.standby = PostgresServer(self.directory / STANDBY, settings=given)
        self._with_standby = standby

    def start(self) -> None:
        """Start both servers; return once commits wait for the standby. Raises PostgresError."""
        if (user := unprivileged_user()) is not None:
            entry = pwd.getpwnam(user)
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        self.primary.initialize()
        self.primary.start()
        if self._with_standby:
            self.standby.copy_from(self.primary)
            self.standby.start()
            self.primary.configure(synchronous_standby_names=STANDBY)
            self.wait_for_standby()

    def wait_for_standby(self) -> None:
        """Return once the standby is a synchronous one. Raises PostgresError."""
        end = time.monotonic() + START
        query = f"SELECT sync_state FROM pg_stat_replication WHERE application_name = '{STANDBY}'"
        while self.primary.execute(query) != [("sync",)]:
            if time.monotonic() > end:
                raise PostgresError(f"the standby is not synchronous\n{self.standby.log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop both servers, and remove their files."""
        for server in (self.standby, self.primary):
            if server.running:
                server.kill()  # nothing in them is needed
        shutil.rmtree(self.directory, ignore_errors=True)

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """Create an empty database, give its URL, and drop it at the end."""
        name = f"test_{secrets.token_hex(6)}"
        self.primary.execute(f"CREATE DATABASE {name}")
        try:
            yield self.primary.dsn(name)
        finally:
            if self.primary.running:
                self.primary.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_pair(*, fsync: bool = False, standby: bool = True, **settings: str) -> Iterator[PostgresPair]:
    """Start a primary with its standby, and stop them at the end. Parameters as in ``PostgresPair``."""
    pair = PostgresPair(fsync=fsync, standby=standby, **settings)
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()


def run_program(program: str, *arguments: str) -> str:
    """Run a program of PostgreSQL and return what it wrote; PostgresError if it fails."""
    done = subprocess.run(
        [POSTGRESQL / program, *arguments],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **_as_user(),
    )
    if done.returncode != 0:
        raise PostgresError(f"{program} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def limit_files(pid: int, size: int | None) -> None:
    """Let a process of a server write files of ``size`` bytes only, or of any size: its disk is full."""
    limit = "unlimited" if size is None else str(size)
    subprocess.run(["prlimit", f"--pid={pid}", f"--fsize={limit}:"], check=True, cwd="/", **_as_user())


def _as_user() -> dict[str, Any]:
    """The options of ``subprocess`` for the user who runs PostgreSQL."""
    user = unprivileged_user()
    if user is None:
        return {}
    groups: Sequence[int] = ()
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": groups}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresPair]:
    """A primary with a synchronous standby that all tests share: use databases of your own."""
    need("postgresql")
    with running_pair() as pair:
        yield pair


@pytest.fixture
def database(postgresql: PostgresPair) -> Iterator[str]:
    """The URL of an empty database."""
    with postgresql.new_database() as url:
        yield url


@pytest.fixture
def postgresql_pair() -> Iterator[PostgresPair]:
    """A primary with a synchronous standby of this test alone."""
    need("postgresql")
    with running_pair() as pair:
        yield pair
