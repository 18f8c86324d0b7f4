"""gcloud itself, where it is installed. Nothing here reaches a network: its commands are parsed, not run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

MISSING = "gcloud is not installed: see https://cloud.google.com/sdk/docs/install"
LOADER = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from googlecloudsdk.api_lib.cloudbuild import cloudbuild_util, config
messages, complaints = cloudbuild_util.GetMessagesModule(), []
for path in sys.argv[3:]:
    try:
        config.LoadCloudbuildConfigFromPath(path, messages)
        complaints.append(None)
    except Exception as error:
        complaints.append(f"{type(error).__name__}: {error}")
print(json.dumps(complaints))
"""
Judge = Callable[[Sequence[str]], list[str | None]]


@pytest.fixture(scope="session")
def gcloud(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run gcloud with arguments, in a configuration of its own; returns what it prints."""
    program = shutil.which("gcloud")
    if program is None:
        pytest.skip(MISSING)
    environment = os.environ | {
        "CLOUDSDK_CONFIG": str(tmp_path_factory.mktemp("gcloud")),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def lint(gcloud: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Ask gcloud's own linter about commands, all in one process: what is wrong with each, or None."""

    def judge(commands: Sequence[str]) -> list[str | None]:
        assert len(commands) == len(set(commands)), "it answers once for each different command"
        file = tmp_path_factory.mktemp("lint") / "commands.json"
        file.write_text(json.dumps([{"command_string": command} for command in commands]))
        results = json.loads(gcloud("meta", "lint-gcloud-commands", f"--commands-file={file}"))
        assert len(results) == len(commands)
        return [None if result["success"] else str(result["error_message"]) for result in results]

    return judge


@pytest.fixture(scope="session")
def load_build() -> Judge:
    """Load files with the loader of `gcloud builds submit`: what is wrong with each, or None."""
    program = shutil.which("gcloud")
    if program is None:
        pytest.skip(MISSING)
    sdk = Path(program).resolve().parents[1]
    if not (sdk / "lib/googlecloudsdk").is_dir():
        pytest.skip(f"{program} is no installation with the library of gcloud beside it")
    bundled = sdk / "platform/bundledpythonunix/bin/python3"

    def judge(paths: Sequence[str]) -> list[str | None]:
        python = str(bundled) if bundled.exists() else sys.executable
        done = subprocess.run(
            [python, "-c", LOADER, str(sdk / "lib"), str(sdk / "lib/third_party"), *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        complaints: list[str | None] = json.loads(done.stdout)
        return complaints

    return judge
