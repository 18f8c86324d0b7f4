"""gcloud itself, where it is installed. Nothing here reaches a network: its commands are parsed, not run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

LINTER = """
from googlecloudsdk import gcloud_main
made, make = [], gcloud_main.CreateCLI
def make_once(surfaces):
    # The linter makes all of gcloud anew for each command, which takes 0.2 s.
    made[:] = made or [make(surfaces)]
    return made[0]
gcloud_main.CreateCLI = make_once
sys.argv = ["gcloud", "meta", "lint-gcloud-commands", "--commands-file=" + arguments[0]]
sys.exit(gcloud_main.main())
"""
LOADER = """
from googlecloudsdk.api_lib.cloudbuild import cloudbuild_util, config
messages, complaints = cloudbuild_util.GetMessagesModule(), []
for path in arguments:
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
def within_gcloud(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program with the library of gcloud and some arguments; returns what it prints."""
    program = shutil.which("gcloud")
    if program is None:
        pytest.skip("needs gcloud: https://cloud.google.com/sdk/docs/install")
    sdk = Path(program).resolve().parents[1]
    if not (sdk / "lib/googlecloudsdk").is_dir():
        pytest.skip(f"needs the library of gcloud, which is not beside {program}")
    bundled = sdk / "platform/bundledpythonunix/bin/python3"
    python = str(bundled) if bundled.exists() else sys.executable
    paths = [str(sdk / "lib"), str(sdk / "lib/third_party")]
    environment = os.environ | {
        "CLOUDSDK_CONFIG": str(tmp_path_factory.mktemp("gcloud")),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
    }

    def run(code: str, *arguments: str) -> str:
        begin = f"import json, sys\nsys.path[:0] = {paths!r}\narguments = sys.argv[1:]\n"
        done = subprocess.run(
            [python, "-c", begin + code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def lint(within_gcloud: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Ask gcloud's own linter about commands: `gcloud meta lint-gcloud-commands`."""

    def judge(commands: Sequence[str]) -> list[str]:
        assert len(commands) == len(set(commands)), "it answers once for each different command"
        file = tmp_path_factory.mktemp("lint") / "commands.json"
        file.write_text(json.dumps([{"command_string": command} for command in commands]))
        results = json.loads(within_gcloud(LINTER, str(file)))
        assert len(results) == len(commands)
        return ["" if result["success"] else str(result["error_message"]) for result in results]

    return judge


@pytest.fixture(scope="session")
def load_builds(within_gcloud: Callable[..., str]) -> Judge:
    """Load files with the loader of `gcloud builds submit`."""

    def judge(paths: Sequence[str]) -> list[str]:
        complaints: list[str] = json.loads(within_gcloud(LOADER, *paths))
        return complaints

    return judge
