"""Each gcloud command that is written down passes gcloud's own linter: command, flags and their values."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.infra.conftest import Judge
from tests.infra.shell import ROOT, bash_in, gcloud_commands, terraform_in, unset_variables
from tests.infra.sources import CLOUDBUILD, TERRAFORM

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(TERRAFORM.rglob("*.md"))]
BROKEN = {
    "gcloud run deploy insignia-api --source=. --functoin=api": "functoin",
    "gcloud run deplyo insignia-api --source=.": "deplyo",
    "gcloud functions deploy insignia-api --gen2 --max-instances=many": "many",
    "gcloud sql instances create insignia --edition=enterprize": "enterprize",
}


@cache
def commands() -> tuple[str, ...]:
    shells = [
        *(bash_in(document.read_text()) for document in DOCUMENTS),
        re.sub(r"^#", "", CLOUDBUILD.read_text(), flags=re.MULTILINE),
        *(terraform_in(file.read_text()) for file in sorted(TERRAFORM.rglob("*.tf"))),
    ]
    numbers = [shell.replace('"$WORKERS"', "4") for shell in shells]  # which the linter takes for a text
    return tuple(dict.fromkeys(command for shell in numbers for command in gcloud_commands(shell)))


def test_the_commands_of_all_sources_are_found() -> None:
    found = [command.split(" --")[0] for command in commands()]
    assert len(found) > 70
    for command in (
        "gcloud builds submit",
        "gcloud functions deploy insignia-migrate",
        "gcloud functions describe insignia-tick",
        "gcloud run deploy insignia-tick",
        "gcloud sql instances create insignia",
        "gcloud scheduler jobs create http insignia-tick",
        "gcloud compute addresses create insignia-egress",
        "gcloud secrets versions access latest",
    ):
        assert command in found


def test_a_command_ends_where_the_shell_ends_it() -> None:
    shell = """
    HOST=$(gcloud run services describe x \\
      --format='value(a.b())') && gcloud a "--b=$(date; id)|c" > file; gcloud projects list | head
    """
    assert list(gcloud_commands(shell)) == [
        "gcloud run services describe x --format='value(a.b())'",
        'gcloud a "--b=$(date; id)|c"',
        "gcloud projects list",
    ]


@pytest.mark.timeout(300)  # it takes 5 s, and more on a machine that does much else
def test_every_command_passes_and_broken_ones_are_refused(lint: Judge) -> None:
    every = (*commands(), *BROKEN)
    complaints = dict(zip(every, lint(every), strict=True))
    for command, mistake in BROKEN.items():
        assert mistake in complaints.pop(command)
    assert {command: complaint for command, complaint in complaints.items() if complaint} == {}


@pytest.mark.parametrize("document", ["docs/deploy.md", "docs/operations.md"])
def test_a_variable_that_a_document_uses_is_set_in_it(document: str) -> None:
    assert unset_variables(bash_in((ROOT / document).read_text())) == set()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: install it")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shell_can_read_what_a_document_has_for_it(document: Path) -> None:
    read = subprocess.run(
        ["bash", "-n"], input=bash_in(document.read_text()), text=True, capture_output=True, check=False
    )
    assert (read.returncode, read.stderr) == (0, "")


def test_a_variable_that_is_not_set_would_be_found() -> None:
    assert unset_variables("A=1\nfor b in x y; do\n  gcloud run $b --x=$A${C}$D\n# $E", given={"D"}) == {"C"}
