"""The commands of the README, typed as they stand there."""

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.child_process import bound_to_parent
from tests.acceptance.conftest import Database
from tests.acceptance.server import TOKEN, Api, Server, environment, free_port, wait_until
from tests.acceptance.shell import BASH, URL, blocks_of, needs_shell, run

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = blocks_of(README)
PORT_OF_THE_RECEIVER = r"\b9000\b"

RECEIVER_COMMAND = next(block for block in BLOCKS if "HTTPServer" in block)
COMMANDS = [block for block in BLOCKS if URL in block]

pytestmark = needs_shell


class Terminal:
    """A shell in the folder of the local run; its variables last from one block to the next."""

    def __init__(self, folder: Path, url: str, port: int) -> None:
        self._folder = folder
        self._url = url
        self._port = port
        (folder / ".data").mkdir()
        (folder / ".data/api-token").write_text(TOKEN)

    def run(self, block: str) -> str:
        return run(self._folder, self._here(block))

    def start(self, block: str) -> "subprocess.Popen[bytes]":
        with (self._folder / "receiver.log").open("wb") as log:
            command = bound_to_parent([BASH, "-c", "exec " + self._here(block)], signal.SIGTERM)
            return subprocess.Popen(command, env=environment({}), stdout=log, stderr=log)

    def received(self) -> str:
        return (self._folder / "receiver.log").read_text()

    def _here(self, block: str) -> str:
        return re.sub(PORT_OF_THE_RECEIVER, str(self._port), block).replace(URL, self._url)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def terminal(server: Server, port: int, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, server.url, port)


@pytest.fixture
def receiver(terminal: Terminal, port: int) -> Iterator[None]:
    process = terminal.start(RECEIVER_COMMAND)
    try:
        wait_until(lambda: is_listening(port), 10, "the receiver of the README listens")
        yield
    finally:
        process.terminate()
        process.wait(10)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.usefixtures("receiver")
def test_the_first_task_of_the_readme_is_called_read_switched_on_and_deleted(
    api: Api, database: Database, terminal: Terminal
) -> None:
    create, read, activate, delete = COMMANDS
    terminal.run(create)
    (task,) = api.get("/tasks/")["tasks"]
    assert task["next_run_at"] is not None

    database.make_due(task)
    api.tick()
    wait_until(lambda: '{"hello":"world"}' in terminal.received(), 10, "the receiver prints the payload")
    assert '"status": "success"' in terminal.run(read)

    api.put(f"/tasks/{task['id']}", {"status": "inactive"})
    terminal.run(activate)
    assert api.get(f"/tasks/{task['id']}")["status"] == "active"

    terminal.run(delete)
    assert api.get("/tasks/")["total"] == 0


def test_the_readme_says_what_the_local_run_prints_for_a_delivery() -> None:
    pattern = r"\d\d:\d\d:\d\d success: Hello → http://127\.0\.0\.1:9000 \([0-9a-f]{8}\): The webhook answered HTTP 204"
    assert re.search(pattern, README)
