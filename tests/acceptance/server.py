"""Insignia as its users meet it: a process of its own, and HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from db.child_process import bound_to_parent

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
TOKEN = "the-token-of-the-acceptance-tests"
NOWHERE = "http://127.0.0.1:9/hook"
"""Where nobody listens."""

YEARLY = "0 0 1 1 *"
"""Only what a test makes due is due."""

OF_THE_SYSTEM = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "USER")
"""What a child takes over of the environment: none of Insignia's settings."""

LEAKS = ("Traceback", 'File "', "sqlalchemy", "pg8000", "SELECT ", "INSERT ", "UPDATE ", "psycopg")
Json = dict[str, Any]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[name] for name in OF_THE_SYSTEM if name in os.environ} | dict(settings)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Api:
    """Requests to one server, with its token; each on a connection of its own."""

    def __init__(self, url: str, token: str | None = TOKEN) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Connection"] = "close"
        if token is not None:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        options = {"timeout": 60, "allow_redirects": False} | options
        return self.session.request(method, self.url + path, **options)

    def get(self, path: str, **query: Any) -> Json:
        return self.ok("GET", path, params=query)

    def post(self, path: str, body: Any) -> Json:
        return self.ok("POST", path, status=201, json=body)

    def put(self, path: str, body: Any) -> Json:
        return self.ok("PUT", path, json=body)

    def delete(self, path: str) -> Json:
        return self.ok("DELETE", path)

    def tick(self) -> Json:
        return self.ok("POST", "/tick")

    def ok(self, method: str, path: str, *, status: int = 200, **options: Any) -> Json:
        answer = self(method, path, **options)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/json"
        document: Json = answer.json()
        return document

    def create(self, **fields: Any) -> Json:
        """A task that is not due by itself, and that calls nobody unless `webhook_url` says whom."""
        return self.post("/tasks/", task_body(**fields))

    def log(self, task: Json, **fields: Any) -> Json:
        body = {"task_id": task["id"], "execution_time": "2026-11-23T12:00:00Z", "status": "success"}
        return self.post("/task-logs/", body | fields)

    def logs(self, task: Json) -> list[Json]:
        logs: list[Json] = self.get(f"/task-logs/task/{task['id']}")["task_logs"]
        return logs


def task_body(**fields: Any) -> Json:
    return {"name": "A task", "schedule": YEARLY, "webhook_url": NOWHERE} | fields


class Server:
    """`python -m functions_framework` with one of the functions of `source`; call wait_until_ready()."""

    def __init__(
        self, directory: Path, settings: Mapping[str, str], target: str = "local", source: Path = ROOT
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.output = directory / "output"
        self._is_stopping = False
        command = [PYTHON, "-m", "functions_framework", f"--target={target}", "--host=127.0.0.1"]
        options = [f"--port={port}", f"--source={source / 'main.py'}"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                bound_to_parent([*command, *options], signal.SIGTERM),
                env=environment(
                    {"API_TOKEN": TOKEN, "LOG_FILE": str(directory / "app.log")} | dict(settings)
                ),
                cwd=directory,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Until it answers anything at all: some functions have no /health."""
        wait_until(self._answers, 30, f"a server at {self.url}: {self.output.read_text()}")

    def begin_to_stop(self) -> None:
        self._is_stopping = True
        self.process.terminate()

    def stop(self) -> int:
        """Its exit code; it must not have logged a traceback."""
        if not self._is_stopping:
            self.begin_to_stop()
        try:
            code = self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
        assert "Traceback" not in self.output.read_text()
        return code

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        try:
            return Api(self.url)("GET", "/health", timeout=5).status_code > 0
        except requests.ConnectionError:
            return False


def assert_problem(answer: requests.Response, status: int, code: str | None = None) -> Json:
    """An RFC 9457 document with the members of api.md and nothing of our inside."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not [leak for leak in LEAKS if leak in answer.text], answer.text
    document: Json = answer.json()
    assert document.keys() - {"errors"} == {"type", "title", "status", "detail", "code", "request_id"}
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert document["title"]
    assert document["detail"]
    assert document["code"] == document["code"].upper()
    assert code in (None, document["code"])
    for error in document.get("errors", []):
        assert error.keys() == {"pointer", "detail"}
    return document


def pointers(document: Json) -> list[str]:
    return [error["pointer"] for error in document.get("errors", [])]
