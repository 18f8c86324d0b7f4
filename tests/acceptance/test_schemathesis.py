"""schemathesis, with all its checks and along the links of the document, finds nothing."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.server import PYTHON, ROOT, TOKEN, Server, environment

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.acceptance.schemathesis_hooks"}


@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing", "stateful"])
@pytest.mark.usefixtures("empty")
def test_schemathesis_finds_nothing(server: Server, phases: str, tmp_path: Path) -> None:
    command = [PYTHON, "-m", "schemathesis.cli", f"--config-file={CONFIG}", "run"]
    bounds = [f"--phases={phases}", "--checks=all", "--max-examples=8", "--generation-deterministic"]
    done = subprocess.run(
        [*command, f"{server.url}/openapi.json", f"--header=Authorization: Bearer {TOKEN}", *bounds],
        cwd=tmp_path,
        env=environment(HOOKS),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    assert int(re.findall(r"(\d+) generated", done.stdout)[0]) >= 50, done.stdout
