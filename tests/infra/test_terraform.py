"""terraform/ is valid, keeps its promises, and hides no finding; the promises are in terraform/tests/.

The offline check runs the real terraform against the providers' schemas. Nothing is applied.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "terraform"
CHECK = ROOT.parent / "shared/terraform-check/check"
CHECKOV = ROOT / ".venv/checkov/bin/checkov"
VARIABLES = ("-var", "project_id=p1-example", "-var", "region=europe-west1")
EVERY_OPTION = (
    *VARIABLES,
    *("-var", "private_network=true"),
    *("-var", 'egress_addresses=["first"]'),
    *("-var", "read_token=true"),
    *("-var", "workers=2"),
    *("-var", "notification_email=ops@example.com"),
)

in_full = pytest.mark.full_infra
pytestmark = pytest.mark.timeout(900)  # a run of `terraform test` takes seconds, and there are a dozen
needs_check = pytest.mark.skipif(
    not CHECK.exists() or shutil.which("terraform") is None,
    reason="needs the offline check and terraform (https://developer.hashicorp.com/terraform/install); "
    "with a network, `terraform init && terraform test` in terraform/ does the same",
)
needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None,
    reason="needs terraform: https://developer.hashicorp.com/terraform/install",
)
needs_checkov = pytest.mark.skipif(
    not CHECKOV.exists(), reason="needs checkov: `make infra` installs it in an environment of its own"
)


def check(
    folder: Path, *arguments: str, google: str = "", plan: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"GOOGLE", "PLAN_JSON"}}
    if google:
        environment["GOOGLE"] = google
    if plan:
        environment["PLAN_JSON"] = str(plan)
    return subprocess.run(
        [CHECK, folder, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def copy_of_the_module(folder: Path, *tests: str) -> Path:
    """terraform/ and what it zips, with only these of its tests."""
    for name in ("functions", "domain", "db", "migrations"):
        (folder / name).mkdir()
    shutil.copy(ROOT / ".gcloudignore", folder)
    module = folder / "terraform"
    shutil.copytree(
        MODULE, module, ignore=shutil.ignore_patterns(".terraform*", "*.tftest.hcl", "*.tfstate*")
    )
    for test in tests:
        shutil.copy(MODULE / "tests" / test, module / "tests")
    (folder / ".git").mkdir()  # the check copies what is around the module up to here
    return module


def break_it(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} has no longer the line that this test breaks"
    file.write_text(text.replace(old, new))


def findings(plan: Path) -> set[tuple[str, str]]:
    scan = subprocess.run(
        [
            *(str(CHECKOV), "--file", str(plan), "--framework", "terraform_plan", "--output", "json"),
            *("--quiet", "--skip-download", "--soft-fail"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(scan.stdout)
    assert report["summary"]["passed"] > 50, "checkov has not understood the plan"
    return {(found["check_id"], found["resource"]) for found in report["results"]["failed_checks"]}


def accepted() -> dict[tuple[str, str], str]:
    entries = tomllib.loads((MODULE / "accepted-findings.toml").read_text())["finding"]
    return {(entry["check"], entry["resource"]): entry["reason"] for entry in entries}


@in_full
@needs_check
def test_the_module_is_valid_and_keeps_its_promises() -> None:
    result = check(MODULE, *VARIABLES)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", result.stdout)


@in_full
@needs_check
def test_the_module_works_with_the_oldest_provider_it_admits(tmp_path: Path) -> None:
    module = copy_of_the_module(tmp_path, "defaults.tftest.hcl")
    result = check(module, *EVERY_OPTION, google="7.41")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Success! 1 passed, 0 failed" in result.stdout


@in_full
@needs_check
@pytest.mark.parametrize("example", ["minimal", "private"])
def test_an_example_works(tmp_path: Path, example: str) -> None:
    result = check(copy_of_the_module(tmp_path) / "examples" / example)
    assert result.returncode == 0, result.stdout + result.stderr


@in_full
@needs_check
def test_a_public_tick_would_be_found(tmp_path: Path) -> None:
    module = copy_of_the_module(tmp_path, "defaults.tftest.hcl")
    break_it(module / "permissions.tf", 'member   = local.members["scheduler"]', 'member   = "allUsers"')
    result = check(module, *VARIABLES)
    assert result.returncode != 0
    assert "Only the scheduler may call tick." in result.stdout + result.stderr


@in_full
@needs_check
def test_a_misspelt_argument_would_be_found(tmp_path: Path) -> None:
    module = copy_of_the_module(tmp_path)
    break_it(module / "scheduler.tf", "  attempt_deadline =", "  attempt_timeout =")
    result = check(module, *VARIABLES)
    assert result.returncode != 0
    assert 'An argument named "attempt_timeout" is not expected here.' in result.stdout + result.stderr


@needs_terraform
def test_the_module_is_formatted() -> None:
    result = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-list=true", MODULE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "")


@in_full
@needs_check
@needs_checkov
def test_checkov_finds_what_is_accepted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    plan = tmp_path / "plan.json"
    result = check(copy_of_the_module(tmp_path / "copy"), *EVERY_OPTION, plan=plan)
    assert result.returncode == 0, result.stdout + result.stderr
    assert findings(plan) == accepted().keys()


@in_full
@needs_check
@needs_checkov
def test_a_bucket_that_can_be_made_public_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    module = copy_of_the_module(tmp_path / "copy")
    break_it(module / "source.tf", '= "enforced"', '= "inherited"')
    plan = tmp_path / "plan.json"
    result = check(module, *EVERY_OPTION, plan=plan)
    assert result.returncode == 0, result.stdout + result.stderr
    assert findings(plan) - accepted().keys() == {("CKV_GCP_114", "google_storage_bucket.source")}


def test_every_accepted_finding_has_a_reason() -> None:
    assert accepted()
    assert all(len(reason) > 20 for reason in accepted().values())


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None,
    reason="needs git and a clone: what is under version control is compared with .gcloudignore",
)
def test_only_what_runs_is_uploaded() -> None:
    lines = (ROOT / ".gcloudignore").read_text().splitlines()
    patterns = [line.rstrip("/") for line in lines if line and not line.startswith("#")]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    uploaded = {
        path.split("/")[0]
        for path in tracked.stdout.splitlines()
        if not any(Path(part).match(pattern) for part in path.split("/") for pattern in patterns)
    }
    assert uploaded == {
        *("main.py", "requirements.txt", "alembic.ini", "LICENSE", "NOTICE"),
        *("functions", "domain", "db", "migrations"),
    }


def test_the_readme_describes_every_variable_and_output() -> None:
    readme = (MODULE / "README.md").read_text()
    for file, heading in (("variables.tf", "Variables"), ("outputs.tf", "Outputs")):
        kind = file.removesuffix("s.tf")
        declared = re.findall(rf'^{kind} "(\w+)"', (MODULE / file).read_text(), re.MULTILINE)
        section = readme.split(f"## {heading}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == declared
