"""A crontab as tasks: its lines that call a URL with curl; what becomes of the others is said."""

from collections.abc import Callable
from typing import Any

from domain.crontab import CrontabEntry, NotTaken, parse_crontab
from domain.curl_command import parse_curl_command
from domain.errors import InsigniaError, InvalidInput
from domain.task import Method
from domain.webhook_url import parse_webhook_url
from functions.fields import MAX_NAME_LENGTH
from functions.json_body import parse_json
from functions.problems import MalformedBody
from functions.schemas import TaskCreate
from functions.validation import validated

Task = dict[str, Any]


def tasks_of_crontab(
    text: str, *, timezone: str, has_users: bool, progress: Callable[[int], None]
) -> tuple[list[Task], list[NotTaken]]:
    """The tasks as a file declares them, and a remark for each line that is left out or not taken over whole.

    `timezone` is that of lines without one of their own; `progress` is told the number of each line.
    """
    tasks: list[Task] = []
    remarks: list[NotTaken] = []
    for found in parse_crontab(text, has_users=has_users):
        progress(found.line)
        if isinstance(found, NotTaken):
            remarks.append(found)
            continue
        try:
            task, notes = _task(found, timezone, {task["name"] for task in tasks})
        except InsigniaError as error:
            remarks.append(NotTaken(found.line, str(error)))
        else:
            tasks.append(task)
            remarks += [NotTaken(found.line, note, is_harmless=True) for note in notes]
    return tasks, remarks


def _task(entry: CrontabEntry, timezone: str, names: set[str]) -> tuple[Task, list[str]]:
    call = parse_curl_command(entry.command)
    notes = list(call.notes)
    task: Task = {
        "name": _name(entry, call.url, names),
        "schedule": entry.schedule,
        "timezone": entry.timezone or timezone,
        "webhook_url": call.url,
        "method": str(call.method),
        "headers": dict(call.headers),
    }
    if call.body is not None:
        task["payload"] = _payload(call.body)
    elif call.method.has_body:
        notes.append("The call had no data; now it sends {}, an empty JSON object.")
    defaults = {"timezone": "UTC", "method": Method.POST, "headers": {}, "payload": {}}
    task = {name: value for name, value in task.items() if defaults.get(name) != value}
    validated(TaskCreate, task)
    return task, notes


def _name(entry: CrontabEntry, url: str, names: set[str]) -> str:
    """The comment above the line, or the host that it calls; the number of the line tells doubles apart."""
    name = (entry.comment or parse_webhook_url(url).host)[:MAX_NAME_LENGTH]
    line = f" (line {entry.line})"
    is_unique = entry.comment is not None and name not in names
    return name if is_unique else name[: MAX_NAME_LENGTH - len(line)] + line


def _payload(body: str) -> Any:
    try:
        return parse_json(body.encode())
    except MalformedBody:
        raise InvalidInput(
            "The data of the curl command is not JSON, which is all that can be sent; let the receiver take JSON."
        ) from None
