"""The form of a task and the body that the API takes: one is made of the other here, and no rule is added.

What is secret is never put into a page: an empty URL or signing secret, and a header without a value, mean that what
is stored stays as it is.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.curl_command import CurlCommand
from domain.errors import InsigniaError
from domain.task import Task, TaskDefinition
from functions.json_body import parse_json
from functions.problems import POINTERS, HttpError
from functions.request_body import Form
from functions.schemas import TaskCreate

DISCORD = {"content": "Hello from Insignia", "username": "Insignia"}
"""What a webhook of Discord wants to be sent."""

TEXTS = (
    "name",
    "timezone",
    "method",
    "status",
    "success_statuses",
    "retry_on",
    "misfire_policy",
    "overlap_policy",
)
NULLABLE = ("schedule", "run_at", "start_at", "end_at")
INTEGERS = ("max_retry", "timeout_seconds", "deactivate_after", "catchup_window_seconds")
KEPT = ("webhook_url", "signing_secret", "notify_url")
"""Empty, they are left as they are."""

FORGOTTEN = "forget_notify_url"
"""Checked, it removes what the empty field would keep."""

FIELDS = (*TEXTS, *NULLABLE, *INTEGERS, *KEPT, "payload", "headers", "tags", FORGOTTEN)


@dataclass(slots=True)
class Filled:
    """What stands in the form, and what is wrong with it: by field, and with the whole (`faults[""]`).

    `revision` is that of the task when the form was first shown.
    """

    values: dict[str, str]
    faults: dict[str, str] = field(default_factory=dict)
    revision: str = ""

    def blame(self, error: InsigniaError) -> None:
        """Put the sentences of an error where their fields are."""
        if isinstance(error, HttpError) and error.faults:
            for fault in error.faults:
                name = fault.pointer.strip("/").partition("/")[0]
                self.faults.setdefault(name if name in FIELDS else "", fault.detail)
        else:
            self.faults.setdefault(POINTERS.get(type(error), "").strip("/"), str(error))

    def forgive_empty(self) -> None:
        """While somebody is still typing, what is empty is not wrong yet."""
        self.faults = {name: text for name, text in self.faults.items() if self.values.get(name)}


def defaults() -> dict[str, str]:
    """The form of a new task: the defaults of the API."""
    fields = TaskCreate.model_fields
    values = dict.fromkeys(FIELDS, "")
    values |= {name: str(fields[name].default) for name in (*TEXTS[1:], *INTEGERS)}
    return values | {"schedule": "0 9 * * *", "payload": "{}"}


def values_of(task: Task) -> dict[str, str]:
    """The form of a stored task, without its secrets."""
    definition = task.definition
    values = {name: str(getattr(definition, name)) for name in (*TEXTS, *INTEGERS) if name != "status"}
    values |= {"status": task.status.value, "schedule": definition.schedule or ""}
    values |= {name: local_text(getattr(definition, name)) for name in ("run_at", "start_at", "end_at")}
    return values | {
        "webhook_url": "",
        "signing_secret": "",
        "notify_url": "",
        FORGOTTEN: "",
        "payload": json.dumps(definition.payload, ensure_ascii=False, indent=2),
        "headers": "".join(f"{name}:\n" for name in definition.headers),
        "tags": " ".join(definition.tags),
    }


def values_of_curl(command: CurlCommand) -> dict[str, str]:
    """The form of a new task that makes the call of a curl command."""
    values = defaults() | {"webhook_url": command.url, "method": command.method.value}
    values["headers"] = "".join(f"{name}: {value}\n" for name, value in command.headers.items())
    return values | {"payload": "{}" if command.body is None else command.body}


def filled(form: Form) -> Filled:
    return Filled({name: form.get(name, "") for name in FIELDS}, revision=form.get("revision", ""))


def body_of(page: Filled, stored: TaskDefinition | None) -> dict[str, Any]:
    """The body for the API; what cannot be one becomes a fault of `page`."""
    values = {name: text.strip() for name, text in page.values.items()}
    body: dict[str, Any] = {name: values[name] for name in TEXTS}
    body |= {name: values[name] or None for name in NULLABLE}
    body |= {name: whole_number(values[name]) for name in INTEGERS if values[name]}
    body |= {name: values[name] for name in KEPT if values[name]}
    if values[FORGOTTEN]:
        body["notify_url"] = None
    body["tags"] = re.split(r"[\s,]+", values["tags"]) if values["tags"] else []
    body["headers"] = headers_of(page, stored)
    try:
        body["payload"] = parse_json(values["payload"].encode()) if values["payload"] else {}
    except HttpError as error:
        page.faults["payload"] = str(error).replace("The body", "The payload", 1)
    return body


def whole_number(text: str) -> int | str:
    """As it is where it is none: the API says what is wrong with it."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,15}", text, re.ASCII) else text


def headers_of(page: Filled, stored: TaskDefinition | None) -> dict[str, str]:
    """Lines of `Name: value`; a name alone keeps its stored value."""
    known: Mapping[str, str] = stored.headers if stored is not None else {}
    headers: dict[str, str] = {}
    for line in filter(str.strip, page.values["headers"].splitlines()):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or (not value and name not in known):
            page.faults["headers"] = f"'{name[:60]}' has no value; write a line such as 'Name: value'."
        elif name in headers:
            page.faults["headers"] = f"'{name[:60]}' occurs twice; join its values with a comma."
        else:
            headers[name] = value or known[name]
    return headers


def local_text(instant: datetime | None) -> str:
    """As a browser's field for date and time has it, in UTC."""
    return f"{instant:%Y-%m-%dT%H:%M:%S}" if instant is not None else ""
