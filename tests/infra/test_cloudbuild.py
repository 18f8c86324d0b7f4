"""cloudbuild.yaml can be submitted, keeps its order, changes nothing when it is run again, and holds no secret."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.settings import load
from tests.infra.conftest import Judge
from tests.infra.shell import ROOT, unset_variables
from tests.infra.sources import CLOUDBUILD, build, deployed_by_cloudbuild, environment_of

SECRET = re.compile(
    r"secretEnv|availableSecrets|versions access|"  # nothing here needs to read one
    r"(?:TOKEN|PASSWORD|SECRET)=(?!insignia-[a-z-]+:)|"  # --set-secrets=API_TOKEN=insignia-api-token:latest names it
    r"(?<![\w/-])(?=[\w-]*[0-9])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{32,}(?![\w/-])"
)
ONLY_ONCE = re.compile(r"\bgcloud [a-z -]+ (?:create|delete)\b")
"""What fails the second time."""


def scripts(of: dict[str, Any]) -> dict[str, str]:
    return {step["id"]: step["script"] for step in of["steps"]}


def unset_in(step: dict[str, Any]) -> set[str]:
    return unset_variables(step["script"], [entry.split("=")[0] for entry in step.get("env", [])])


def test_gcloud_can_submit_it_and_would_refuse_a_broken_one(load_builds: Judge, tmp_path: Path) -> None:
    text = CLOUDBUILD.read_text()
    (tmp_path / "misspelt.yaml").write_text(text.replace("serviceAccount:", "serviceAcount:"))
    (tmp_path / "unknown-substitution.yaml").write_text(text.replace("\n  _REGION:", "\n  REGION:"))
    good, misspelt, unknown = load_builds(
        [
            str(path)
            for path in (CLOUDBUILD, tmp_path / "misspelt.yaml", tmp_path / "unknown-substitution.yaml")
        ]
    )
    assert good == ""
    assert "serviceAcount" in misspelt
    assert "REGION" in unknown


def test_it_checks_then_migrates_then_deploys_then_schedules() -> None:
    assert list(scripts(build())) == [
        "check",
        "deploy-migrate",
        "migrate",
        "deploy-api",
        "deploy-deliver",
        "deploy-tick",
        "schedule",
    ]
    assert not any("waitFor" in step for step in build()["steps"])  # so each waits for all before it
    assert ".ci/run" in scripts(build())["check"]
    assert "main.py scheduler ensure" in scripts(build())["schedule"]


def test_the_program_that_schedules_has_the_options_and_the_settings_that_it_gets() -> None:
    (step,) = [step for step in build()["steps"] if step["id"] == "schedule"]
    words = shlex.split(step["script"].split("main.py ")[1].replace("\\\n", " "))
    given = {word for word in words if word.startswith("--")}
    told = subprocess.run(
        [sys.executable, "main.py", "scheduler", "ensure", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert given == set(re.findall(r"--[a-z-]+", told.stdout)) - {"--help"}
    environment = environment_of(step, build()["substitutions"])
    load({name: text.replace("$PROJECT_ID", "your-project-id") for name, text in environment.items()})


def test_it_has_an_account_of_its_own_and_so_has_each_function() -> None:
    accounts = [one.flags["service-account"].split("@")[0] for one in deployed_by_cloudbuild()]
    assert accounts == ["insignia-migrate", "insignia-api", "insignia-deliver", "insignia-tick"]
    assert {
        one.flags["build-service-account"].split("/")[3].split("@")[0] for one in deployed_by_cloudbuild()
    } == {"insignia-build"}
    assert "/insignia-deploy@" in build()["serviceAccount"]


def test_only_api_is_public() -> None:
    public = [
        one.entry_point for one in deployed_by_cloudbuild() if "no-allow-unauthenticated" not in one.flags
    ]
    assert public == ["api"]


@pytest.mark.parametrize("step", build()["steps"], ids=lambda step: step["id"])
def test_a_script_stops_at_the_first_failure_and_knows_its_variables(step: dict[str, Any]) -> None:
    assert step["script"].startswith("#!/usr/bin/env bash\nset -euo pipefail\n")
    assert unset_in(step) == set()
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash: install it")
    assert subprocess.run([bash, "-n"], input=step["script"], text=True, check=False).returncode == 0


def test_a_variable_that_a_step_does_not_get_would_be_found() -> None:
    step = yaml.safe_load('{env: ["A=$PROJECT_ID"], script: "echo $A $PROJECT_ID"}')
    assert unset_in(step) == {"PROJECT_ID"}


def test_every_substitution_is_used() -> None:
    names = build()["substitutions"]
    used = {
        name
        for step in build()["steps"]
        for entry in step.get("env", [])
        for name in re.findall(r"\$(_\w+)", entry)
    }
    assert used == names.keys()


def test_it_holds_no_secret_and_reads_none() -> None:
    assert SECRET.search(CLOUDBUILD.read_text()) is None


@pytest.mark.parametrize(
    "text",
    [
        "--set-env-vars=API_TOKEN=$API_TOKEN",
        "gcloud secrets versions access latest --secret=insignia-api-token",
        "secretEnv: [TOKEN]",
        "--header 'X: Zk3vQ8sLw1Xy7Bn5Tc2Rd9Fg4Hj6Km0Pq'",
    ],
)
def test_a_secret_in_it_would_be_found(text: str) -> None:
    assert SECRET.search(text)


def test_it_can_be_run_again() -> None:
    assert ONLY_ONCE.search(CLOUDBUILD.read_text()) is None


def test_a_step_that_works_only_once_would_be_found() -> None:
    assert ONLY_ONCE.search('gcloud scheduler jobs create http insignia-tick --location="$REGION"')
