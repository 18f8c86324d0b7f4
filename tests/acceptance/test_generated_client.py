"""A client that openapi-python-client makes of the document creates and reads a task."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import PYTHON, TOKEN, Api, environment
from tests.openapi import SNAPSHOT

pytest.importorskip("openapi_python_client", reason="needs openapi-python-client: requirements-dev.txt")
PACKAGE = "insignia_client"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Api) -> Any:
    config = tmp_path / "config.yaml"
    config.write_text(f"package_name_override: {PACKAGE}\npost_hooks: []\n")
    command = [PYTHON, "-m", "openapi_python_client", "generate", f"--path={SNAPSHOT}", f"--config={config}"]
    done = subprocess.run(
        [*command, "--meta=none", f"--output-path={tmp_path / PACKAGE}", "--fail-on-warning"],
        cwd=tmp_path,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(PACKAGE).AuthenticatedClient(
        base_url=api.url, token=TOKEN, raise_on_unexpected_status=True
    )
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_a_generated_client_creates_reads_and_lists_a_task(client: Any, api: Api) -> None:
    models = importlib.import_module(f"{PACKAGE}.models")
    calls = {
        name: importlib.import_module(f"{PACKAGE}.api.tasks.{name}")
        for name in ("create_task", "get_task", "list_tasks")
    }
    body = models.TaskCreate(name="Generated", webhook_url="http://127.0.0.1:9/", schedule="0 0 1 1 *")
    with client:
        created = calls["create_task"].sync(client=client, body=body, idempotency_key="once")
        assert isinstance(created, models.Task), created
        repeated = calls["create_task"].sync(client=client, body=body, idempotency_key="once")
        read = calls["get_task"].sync(str(created.id), client=client)
        listed = calls["list_tasks"].sync(client=client)
    assert isinstance(read, models.Task)
    assert read.to_dict() == created.to_dict() == repeated.to_dict()
    assert [task.id for task in listed.tasks] == [created.id]
    assert api.get(f"/tasks/{created.id}")["name"] == "Generated"
