"""docs/events.md as data: the names of the events, their fields and the types of these."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/events.md"
EVERY_LINE = "Every line"
TYPES = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "string or null": (str, type(None)),
    "integer or null": (int, type(None)),
}


def sections() -> dict[str, dict[str, str]]:
    """The type of each field by section; a section without a table has the fields of the one it names."""
    found: dict[str, dict[str, str]] = {}
    for heading, text in re.findall(
        r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE
    ):
        same = re.search(r"The fields are those of\s+\[`([a-z._]+)`\]", text)
        rows = dict(re.findall(r"^\| `([\w./]+)` \| ([a-z ]+) \|", text, re.MULTILINE))
        assert rows or same or "It has no fields of its own." in text, f"{heading} has no fields"
        found[heading.strip("`")] = found[same[1]] if same else rows
    return found


def documented_events() -> dict[str, dict[str, str]]:
    return {name: fields for name, fields in sections().items() if name != EVERY_LINE}


def fields_of_every_line() -> set[str]:
    return set(sections()[EVERY_LINE])


def assert_is_as_documented(entry: Mapping[str, Any]) -> None:
    """A line has the fields of its event, with values of their types, and those of every line."""
    documented = documented_events()[entry["event"]]
    assert entry.keys() - fields_of_every_line() == documented.keys()
    for name, kind in documented.items():
        assert type(entry[name]) in TYPES[kind], (entry["event"], name, entry[name])


def events_in_the_code() -> set[str]:
    """What looks like the name of an event in functions/events.py, which alone writes them."""
    writers = [file for file in (ROOT / "functions").rglob("*.py") if '"event":' in file.read_text()]
    assert [file.name for file in writers] == ["events.py"]
    constants = [
        node.value for node in ast.walk(ast.parse(writers[0].read_text())) if isinstance(node, ast.Constant)
    ]
    return {text for text in constants if isinstance(text, str) and re.fullmatch(r"[a-z]+\.[a-z_]+", text)}
