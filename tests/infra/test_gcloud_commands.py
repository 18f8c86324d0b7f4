"""Each gcloud command that is written down passes gcloud's own parser: command, flags and their values."""

from functools import cache

import pytest

from tests.infra.conftest import Judge
from tests.infra.shell import ROOT, bash_in, gcloud_commands, terraform_in
from tests.infra.sources import CLOUDBUILD, TERRAFORM

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(TERRAFORM.rglob("*.md"))]
BROKEN = {
    "gcloud run deploy insignia-api --source=. --functoin=api": "functoin",
    "gcloud run deplyo insignia-api --source=.": "deplyo",
    "gcloud functions deploy insignia-api --gen2 --max-instances=many": "integer",
    "gcloud sql instances create insignia --edition=enterprize": "edition",
    "gcloud scheduler jobs create http insignia-tick --schedule='* * * * *' --uri=tick": "uri",
}


@cache
def commands() -> tuple[str, ...]:
    shells = [
        *(bash_in(document.read_text()) for document in DOCUMENTS),
        CLOUDBUILD.read_text().replace("\n#", "\n"),
        *(terraform_in(file.read_text()) for file in sorted(TERRAFORM.rglob("*.tf"))),
    ]
    return tuple(dict.fromkeys(command for shell in shells for command in gcloud_commands(shell)))


def test_the_commands_of_all_sources_are_found() -> None:
    found = [command.split(" --")[0] for command in commands()]
    assert len(found) > 50
    for command in (
        "gcloud builds submit",
        "gcloud functions deploy insignia-migrate",
        "gcloud functions describe insignia-tick",
        "gcloud run deploy insignia-tick",
        "gcloud sql instances create insignia",
        "gcloud scheduler jobs create http insignia-tick",
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


def test_every_command_passes_and_broken_ones_are_refused(lint: Judge) -> None:
    complaints = dict(zip((*commands(), *BROKEN), lint((*commands(), *BROKEN)), strict=True))
    for command, word in BROKEN.items():
        assert word in (complaints.pop(command) or ""), command
    assert {command: complaint for command, complaint in complaints.items() if complaint} == {}


@pytest.mark.parametrize("document", ["docs/deploy.md", "docs/operations.md", "README.md"])
def test_a_variable_that_a_document_uses_is_set_in_it(document: str) -> None:
    shell = bash_in((ROOT / document).read_text())
    assert unset_variables(shell) == set()


def test_a_variable_that_is_not_set_is_found() -> None:
    assert unset_variables("A=1\nfor b in x y; do\n gcloud run $b --x=$A${C}'$D'") == {"C"}


def unset_variables(shell: str) -> set[str]:
    from tests.infra.test_cloudbuild import unset

    return unset(shell, set())
