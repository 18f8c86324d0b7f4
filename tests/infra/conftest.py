"""gcloud itself, where it is installed. Nothing here reaches a network: its commands are parsed, not run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

MISSING = "needs gcloud: https://cloud.google.com/sdk/docs/install"
LOADER = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from googlecloudsdk.api_lib.cloudbuild import cloudbuild_util, config
messages, complaints = cloudbuild_util.GetMessagesModule(), []
for path in sys.argv[3:]:
    try:
        config.LoadCloudbuildConfigFromPath(path, messages)
        complaints.append("")
    except Exception as error:
        complaints.append(f"{type(error).__name__}: {error}")
print(json.dumps(complaints))
"""
Judge = Callable[[Sequence[str]], list[str]]
"""What is wrong with each of some things; an empty text if nothing is."""


@pytest.fixture(scope="session")
def gcloud() -> str:
    program = shutil.which("gcloud")
    if program is None:
        pytest.skip(MISSING)
    return program


@pytest.fixture(scope="session")
def lint(gcloud: str, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Ask gcloud's own linter about commands. Each costs it 0.2 s: so two of it share them."""
    environment = os.environ | {
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
    }

    def start(commands: Sequence[str]) -> subprocess.Popen[str]:
        folder = tmp_path_factory.mktemp("gcloud")
        file = folder / "commands.json"
        file.write_text(json.dumps([{"command_string": command} for command in commands]))
        return subprocess.Popen(
            [gcloud, "meta", "lint-gcloud-commands", f"--commands-file={file}"],
            env=environment | {"CLOUDSDK_CONFIG": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def results(linter: subprocess.Popen[str]) -> list[str]:
        output, errors = linter.communicate()
        assert linter.returncode == 0, errors
        return ["" if found["success"] else str(found["error_message"]) for found in json.loads(output)]

    def judge(commands: Sequence[str]) -> list[str]:
        assert len(commands) == len(set(commands)), "it answers once for each different command"
        middle = len(commands) // 2
        linters = [start(commands[:middle]), start(commands[middle:])]
        complaints = [complaint for linter in linters for complaint in results(linter)]
        assert len(complaints) == len(commands)
        return complaints

    return judge


@pytest.fixture(scope="session")
def load_builds(gcloud: str) -> Judge:
    """Load files with the loader of `gcloud builds submit`."""
    sdk = Path(gcloud).resolve().parents[1]
    if not (sdk / "lib/googlecloudsdk").is_dir():
        pytest.skip(f"needs the library of gcloud, which is not beside {gcloud}")
    bundled = sdk / "platform/bundledpythonunix/bin/python3"
    python = str(bundled) if bundled.exists() else sys.executable

    def judge(paths: Sequence[str]) -> list[str]:
        done = subprocess.run(
            [python, "-c", LOADER, str(sdk / "lib"), str(sdk / "lib/third_party"), *paths],
            capture_output=True,
            text=True,
            check=True,
        )
        complaints: list[str] = json.loads(done.stdout)
        return complaints

    return judge
