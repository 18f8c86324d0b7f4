"""Lines of a crontab: what runs when. What a command does is not known here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"""\s*(["']?)(?P<name>[A-Za-z_]\w*)\1\s*=\s*(?P<value>.*?)\s*""")
_FIELDS = re.compile(r"(?P<schedule>@\S+|\S+(?:\s+\S+){4})\s+(?P<command>.*)")
_TIMEZONES = ("CRON_TZ", "TZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrontabEntry:
    """A command and its schedule; `comment` is what stands in the line before, without its '#'."""

    line: int
    schedule: str
    command: str
    timezone: str | None
    comment: str | None


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A line from which no task comes, with the reason; `is_harmless` if none was to be expected."""

    line: int
    reason: str
    is_harmless: bool = False


def parse_crontab(text: str, *, has_users: bool) -> Iterator[CrontabEntry | NotTaken]:
    """Every line that says something, in order; `has_users`: a user stands before each command.

    CRON_TZ, else TZ, holds for the lines after it, as in cronie.
    """
    timezones = dict[str, str]()
    comment = None
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        previous_comment, comment = comment, None
        if content.startswith("#"):
            comment = content.lstrip("#").strip() or None
        elif assignment := _ASSIGNMENT.fullmatch(content):
            name, value = assignment["name"], assignment["value"].strip("\"'")
            if name in _TIMEZONES:
                timezones[name] = value
            else:
                yield NotTaken(number, f"{name} is set for commands; a webhook has no environment.", True)
        elif content:
            yield _entry(number, content, timezones, previous_comment, has_users=has_users)


def _entry(
    number: int, content: str, timezones: dict[str, str], comment: str | None, *, has_users: bool
) -> CrontabEntry | NotTaken:
    fields = _FIELDS.fullmatch(content)
    command = fields["command"] if fields else ""
    if has_users:
        _, _, command = command.partition(" ")
    if fields is None or not command.strip():
        return NotTaken(number, "This is not a schedule with a command.")
    if re.search(r"(?<!\\)%", command):
        return NotTaken(
            number, "A '%' without a backslash begins the input of the command, and a call has none."
        )
    return CrontabEntry(
        line=number,
        schedule=" ".join(fields["schedule"].split()),
        command=command.replace("\\%", "%").strip(),
        timezone=next((timezones[name] for name in _TIMEZONES if timezones.get(name)), None),
        comment=comment,
    )
