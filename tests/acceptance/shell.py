"""The commands of a document, run in a shell as they stand there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.server import environment

URL = "http://127.0.0.1:8000"
BASH = shutil.which("bash") or ""
STRICTLY = """
set -eu -o pipefail
curl() { command curl --fail-with-body --silent --show-error "$@"; }
if [ -f variables ]; then . ./variables; fi
"""
REMEMBERING = "\ndeclare -p ${!TOKEN@} ${!TASK@} > variables\n"

needs_shell = pytest.mark.skipif(
    not (BASH and shutil.which("curl")), reason="needs bash and curl: install them"
)


def blocks_of(document: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)


def run(folder: Path, block: str) -> str:
    """What a block prints; its variables last from one block to the next in the same folder."""
    done = subprocess.run(
        [BASH, "-c", STRICTLY + block + REMEMBERING],
        cwd=folder,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done
    return done.stdout
