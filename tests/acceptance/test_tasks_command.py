"""`python main.py tasks` against a real server, and the page of the documentation that tells of it."""

import json
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from functions import command_line
from tests.acceptance.server import PYTHON, ROOT, TOKEN, Api, environment, task_body

PAGE = (ROOT / "docs/tasks-as-code.md").read_text()
Command = Callable[..., tuple[int, str, str]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def command(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Exit code and output of `python main.py tasks`, run in this process and an empty directory."""
    monkeypatch.setenv("INSIGNIA_URL", api.url)
    monkeypatch.setenv("API_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["main.py", "tasks", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        captured = capsys.readouterr()
        code = ended.value.code or 0
        return (1, captured.out, code) if isinstance(code, str) else (int(code), captured.out, captured.err)

    return command


def test_each_command_of_the_page_does_what_it_says(api: Api, command: Command) -> None:
    (tasks,), (crontab,), (_, remarks) = blocks("yaml"), blocks("crontab"), blocks("text")
    Path("tasks.yaml").write_text(tasks)
    Path("crontab.txt").write_text(crontab)
    plan, apply, export, import_crontab = (shlex.split(block)[3:] for block in blocks("bash"))

    assert command(*plan)[:2] == (
        2,
        "+ Daily report\n+ Clean up\n+ New year\n3 to create, 0 to change, 0 to delete, 0 unchanged.\n",
    )
    assert api.get("/tasks/")["total"] == 0
    assert command(*apply)[0] == 0
    assert api.get("/tasks/")["total"] == 3
    assert command(*plan)[:2] == (0, "0 to create, 0 to change, 0 to delete, 3 unchanged.\n")

    assert command(*export)[0] == 0
    assert command("plan", "-f", "exported.yaml", "--prune")[0] == 0
    assert stat.S_IMODE(Path("exported.yaml").stat().st_mode) == 0o600

    code, _, told = command(*import_crontab)
    assert code == 2
    assert told.startswith(remarks)
    assert command("apply", "-f", "from-crontab.yaml")[0] == 0
    imported = {task["name"]: task for task in api.get("/tasks/")["tasks"]}
    assert imported["Nightly backup"]["timezone"] == "Europe/Berlin"
    assert imported["hooks.example.com (line 6)"]["payload"] == {"deep": True}


def test_an_export_into_a_file_that_others_could_read_is_its_owners_alone(api: Api, command: Command) -> None:
    api.create(name="One")
    exported = Path("exported.yaml")
    exported.touch(mode=0o644)
    exported.chmod(0o644)
    assert command("export", "-f", str(exported))[0] == 0
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600


def test_a_diff_shows_what_changes(api: Api, command: Command) -> None:
    api.create(name="One", headers={"X-Key": "secret"})
    api.create(name="Other [x]")
    task = {"name": "One", "schedule": "0 0 1 1 *", "webhook_url": "http://127.0.0.1:9/hook", "max_retry": 0}
    Path("tasks.json").write_text(json.dumps({"tasks": [task]}))
    code, out, _ = command("plan", "-f", "tasks.json", "--prune")
    assert (code, out) == (
        2,
        '~ One\n    headers: {"X-Key": "…"} -> {}\n    max_retry: 3 -> 0\n- Other [x]\n'
        "0 to create, 1 to change, 1 to delete, 0 unchanged.\n",
    )
    code, out, _ = command("apply", "-f", "tasks.json", "--json")
    assert (code, json.loads(out)["updated"]) == (0, 1)
    assert command("apply", "-f", "tasks.json", "--prune")[:2] == (
        0,
        "- Other [x]\n0 created, 0 changed, 1 deleted, 1 unchanged.\n",
    )
    assert [one["name"] for one in json.loads(command("export", "--json")[1])["tasks"]] == ["One"]


def test_what_is_wrong_is_said_with_the_name_of_the_task(command: Command) -> None:
    Path("tasks.yaml").write_text("tasks: [{name: One, schedule: 61 * * * *, webhook_url: x}, 5]")
    code, out, error = command("apply", "-f", "tasks.yaml")
    assert (code, out) == (1, "")
    assert error.splitlines() == [
        "Insignia cannot do that: tasks.yaml: task 'One', schedule: Schedule '61 * * * *': minute 61 is out of range; "
        "use 0 to 59.",
        "tasks.yaml: task 'One', webhook_url: The webhook URL must begin with http:// or https://.",
        "tasks.yaml: tasks/1 must be a JSON object, not a number.",
    ]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"API_TOKEN": ""}, "API_TOKEN is missing"),
        ({"API_TOKEN": "a-token-that-is-not-valid"}, "The token is not valid"),
        (
            {"INSIGNIA_URL": "http://127.0.0.1:9"},
            "http://127.0.0.1:9 gives no answer (ConnectionError); "
            "start Insignia there, or set INSIGNIA_URL to where it runs.",
        ),
        ({"INSIGNIA_URL": "http://insignia.example.com"}, "INSIGNIA_URL is 'http://insignia.example.com'"),
    ],
)
def test_an_insignia_that_cannot_be_asked(
    command: Command, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], part: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    Path("tasks.yaml").write_text("tasks: []")
    code, _, error = command("plan", "-f", "tasks.yaml")
    assert code == 1
    assert part in error
    assert "\n" not in error


def test_a_file_that_is_not_there(command: Command) -> None:
    error = command("plan", "-f", "tasks.yaml")[2]
    assert error == "Insignia cannot do that: tasks.yaml: No such file or directory."


def test_without_its_libraries_it_says_how_to_get_them() -> None:
    program = (
        "import sys; sys.modules['typer'] = None; sys.argv[1:] = ['tasks', 'plan'];"
        "from functions.command_line import main; main()"
    )
    done = subprocess.run(
        [PYTHON, "-c", program], cwd=ROOT, env=environment({}), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "Insignia cannot do that: typer is missing; run: pip install -r requirements-cli.txt\n"
    )


def test_the_real_program_reads_the_standard_input(api: Api, tmp_path: Path) -> None:
    done = subprocess.run(
        [PYTHON, ROOT / "main.py", "tasks", "plan", "-f", "-"],
        cwd=tmp_path,
        env=environment({"INSIGNIA_URL": api.url, "API_TOKEN": TOKEN}),
        input=json.dumps({"tasks": [task_body(name="One")]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (2, "+ One", "")
