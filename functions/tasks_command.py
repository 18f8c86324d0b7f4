"""`python main.py tasks`: tasks as code, at a running Insignia (docs/tasks-as-code.md).

Exit codes: 0, or 2 if a plan has changes or an import left lines out, or 1 if something is wrong.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from domain.errors import InsigniaError, InvalidInput
from functions.crontab_import import tasks_of_crontab
from functions.remote import Document, Refused, Remote
from functions.task_file import read_tasks, without_defaults, write_tasks

CHANGES = 2
STYLES = {"create": "green", "update": "yellow", "delete": "red", "unchanged": "dim"}
SIGNS = {"create": "+", "update": "~", "delete": "-", "unchanged": " "}

File = Annotated[Path, typer.Option("-f", "--file", help="The file with the tasks; - is the standard input.")]
Output = Annotated[
    Path | None, typer.Option("-f", "--file", help="Where to write; without it the standard output.")
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Delete tasks that are not in the file, with their logs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer of the API.")]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keep tasks in a file, and bring a running Insignia (INSIGNIA_URL, API_TOKEN) to what it says.",
)
output = Console(highlight=False, soft_wrap=True)
notes = Console(highlight=False, soft_wrap=True, stderr=True)


def main(arguments: list[str]) -> None:
    """Ends with exit code 1 and a line or more when something is wrong."""
    try:
        app(arguments, prog_name="python main.py tasks")
    except InsigniaError as error:
        sys.exit(f"Insignia cannot do that: {error}")
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}." if error.filename else str(error)
        sys.exit(f"Insignia cannot do that: {reason}")


@app.command()
def plan(file: File, prune: Prune = False, as_json: AsJson = False) -> None:
    """Show what apply would do; exit code 2 if that is something."""
    answer = brought(file, prune=prune, dry_run=True)
    tell(answer, as_json=as_json)
    raise typer.Exit(CHANGES if any(change["action"] != "unchanged" for change in answer["tasks"]) else 0)


@app.command()
def apply(file: File, prune: Prune = False, as_json: AsJson = False) -> None:
    """Create and change tasks until they are as the file says: all of it, or nothing."""
    tell(brought(file, prune=prune, dry_run=False), as_json=as_json)


@app.command()
def export(file: Output = None, as_json: AsJson = False) -> None:
    """Write all tasks, with their secrets, as apply takes them."""
    remote = Remote()
    with progress() as bar:
        bar.add_task("Reading", total=None)
        tasks = remote.get("/tasks/export")["tasks"]
    tasks = [without_defaults(task) for task in tasks]
    written(
        file,
        json.dumps({"tasks": tasks}, ensure_ascii=False, indent=2) + "\n" if as_json else write_tasks(tasks),
    )


@app.command("import")
def import_crontab(
    crontab: Annotated[
        Path, typer.Argument(help="A crontab; - is the standard input, as of `crontab -l |`.")
    ],
    file: Output = None,
    timezone: Annotated[str, typer.Option(help="Of lines that have no CRON_TZ or TZ above them.")] = "UTC",
    has_users: Annotated[
        bool, typer.Option("--system", help="A user stands before each command, as in /etc/crontab.")
    ] = False,
) -> None:
    """Write the lines of a crontab that call a URL with curl as tasks; exit code 2 if others were left out."""
    text = read(crontab)
    with progress() as bar:
        lines = bar.add_task("Lines", total=len(text.splitlines()))
        tasks, remarks = tasks_of_crontab(
            text,
            timezone=timezone,
            has_users=has_users,
            progress=lambda line: bar.update(lines, completed=line),
        )
    written(file, write_tasks(tasks))
    for remark in remarks:
        style = "dim" if remark.is_harmless else "yellow"
        notes.print(f"[{style}]{crontab}:{remark.line}: {escape(remark.reason)}[/]")
    left_out = sum(not remark.is_harmless for remark in remarks)
    notes.print(f"Tasks: {len(tasks)}; lines left out: {left_out}. Without CRON_TZ a line means {timezone}.")
    raise typer.Exit(CHANGES if left_out else 0)


def brought(file: Path, *, prune: bool, dry_run: bool) -> Document:
    tasks = read_tasks(read(file))
    remote = Remote()
    try:
        with progress() as bar:
            bar.add_task(f"{len(tasks)} tasks", total=None)
            return remote.post("/tasks/apply", {"tasks": tasks, "prune": prune, "dry_run": dry_run})
    except Refused as error:
        if not error.errors:
            raise
        raise InvalidInput("\n".join(placed(file, tasks, one) for one in error.errors)) from None


def placed(file: Path, tasks: list[Any], error: Document) -> str:
    """An error of the API with the name of the task that its pointer leads to."""
    match error["pointer"].split("/"):
        case ["", "tasks", index, *field] if index.isdigit() and isinstance(tasks[int(index)], dict):
            name = tasks[int(index)].get("name", f"number {int(index) + 1}")
            return f"{file}: task '{name}'{''.join(f', {part}' for part in field)}: {error['detail']}"
    return f"{file}: {error['detail']}"


def tell(answer: Document, *, as_json: bool) -> None:
    """The answer as JSON, or as a diff: each change, and how many there are."""
    if as_json:
        sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
        return
    for change in answer["tasks"]:
        action = change["action"]
        if action != "unchanged":
            output.print(f"[{STYLES[action]}]{SIGNS[action]} {escape(change['name'])}[/]")
        for field in change["changes"]:
            before, after = (json.dumps(field[side], ensure_ascii=False) for side in ("before", "after"))
            output.print(f"    {field['field']}: [red]{escape(before)}[/] -> [green]{escape(after)}[/]")
    verbs = (
        ("to create", "to change", "to delete") if answer["dry_run"] else ("created", "changed", "deleted")
    )
    counts = [answer[name] for name in ("created", "updated", "deleted")]
    output.print(
        ", ".join(f"{count} {verb}" for count, verb in zip(counts, verbs, strict=True))
        + f", {answer['unchanged']} unchanged."
    )


def read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not a text in UTF-8.") from None


def written(file: Path | None, text: str) -> None:
    """A file of its owner's alone, also if it was there before: it may hold secrets."""
    if file is None or str(file) == "-":
        sys.stdout.write(text)
        return
    file.touch(mode=0o600)
    if file.is_file():  # and not a device such as /dev/stdout
        file.chmod(0o600)
    file.write_text(text)


@contextmanager
def progress() -> Iterator[Progress]:
    """A bar on the terminal while something takes long; it does not get into output that is kept."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        yield bar
