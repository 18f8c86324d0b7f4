"""The commands of docs/api.md, run as they stand there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.server import TOKEN, Api, Server, environment

TOUR = (Path(__file__).parents[2] / "docs/api.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", TOUR, re.DOTALL | re.MULTILINE)
URL = "http://127.0.0.1:8000"
STRICTLY = """
set -eu -o pipefail
curl() { command curl --fail-with-body --silent --show-error "$@"; }
if [ -f variables ]; then . ./variables; fi
"""
REMEMBERING = "\ndeclare -p ${!TOKEN@} ${!TASK@} > variables\n"
BASH = shutil.which("bash") or ""

pytestmark = pytest.mark.skipif(
    not (BASH and shutil.which("curl")), reason="needs bash and curl: install them"
)


def run(folder: Path, server: Server, block: str) -> str:
    done = subprocess.run(
        [BASH, "-c", STRICTLY + block.replace(URL, server.url) + REMEMBERING],
        cwd=folder,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done
    return done.stdout


def test_each_command_of_the_tour_does_what_it_says(api: Api, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data/api-token").write_text(TOKEN)
    health, create, read, change, find, happened, record, delete = BLOCKS
    assert '"status":"healthy"' in run(tmp_path, server, health)

    run(tmp_path, server, create)
    run(tmp_path, server, create)
    (task,) = api.get("/tasks/")["tasks"]
    assert task["tags"] == ["billing"]

    assert run(tmp_path, server, read) == "304\n"
    assert '"schedule":"0 9 * * MON-FRI"' in run(tmp_path, server, change)
    assert run(tmp_path, server, find).count(task["id"]) == 2

    assert run(tmp_path, server, happened).count('"task_logs":[]') == 2
    assert '"source":"api"' in run(tmp_path, server, record)
    assert run(tmp_path, server, happened).count('"source":"api"') == 1

    run(tmp_path, server, delete)
    assert api.get("/tasks/")["total"] == 0
