"""docs/operations.md speaks of what there is: error texts, alerts, log events and their fields."""

import ast
import re
from functools import cache

from tests.events import documented_events, fields_of_every_line
from tests.infra.shell import ROOT
from tests.infra.sources import OPERATIONS, terraform

VARIES = "…"


def section(heading: str, level: str = "##") -> str:
    return OPERATIONS.read_text().split(f"\n{level} {heading}\n")[1].split(f"\n{level} ")[0]


@cache
def sentences() -> list[str]:
    """Every text in the code, with what it computes written as …"""
    found = []
    for folder in ("domain", "db", "functions"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Constant(value=str(text)):
                        found.append(text)
                    case ast.JoinedStr(values=parts):
                        found.append(
                            "".join(str(p.value) if isinstance(p, ast.Constant) else VARIES for p in parts)
                        )
    return found


def not_in_the_code(texts: list[str]) -> list[str]:
    return [text for text in texts if not any(text in sentence for sentence in sentences())]


def quoted() -> list[str]:
    ours = section("Troubleshooting").split("\nThose of Google Cloud:\n")[0]
    return re.findall(r"^\| `([^`]+)`", ours, re.MULTILINE)


def test_every_error_text_that_is_quoted_is_one_of_the_code() -> None:
    assert len(quoted()) > 25
    assert not_in_the_code(quoted()) == []


def test_a_text_that_the_code_does_not_say_would_be_found() -> None:
    known = "A token is missing; send the header 'Authorization: Bearer <token>'."
    assert not_in_the_code([known, known.replace("missing", "absent")]) == [
        known.replace("missing", "absent")
    ]
    assert not_in_the_code([f"{VARIES} is '{VARIES}'; expected a whole number from 1 to 9."]) != []


def test_every_alert_of_terraform_has_a_section_and_nothing_else_has() -> None:
    text = terraform("alerts.tf")
    titles = re.findall(r'^      title     = "(.*)"$', text, re.MULTILINE)
    named = re.findall(r'See docs/operations\.md, alert \\"(.*?)\\"', text)
    sections = re.findall(r"^### (.*)$", section("Alerts"), re.MULTILINE)
    assert {"No tick for 5 minutes", *titles} == set(named) == set(sections)
    assert len(sections) == len(named)


def test_the_events_and_fields_it_names_are_those_of_the_log() -> None:
    text = OPERATIONS.read_text()
    events = set(re.findall(r'"([a-z]+\.[a-z]+)"', "".join(re.findall(r"jsonPayload\.event=.*", text))))
    fields = set(
        re.findall(r"jsonPayload\.(\w+)", section("Read the logs").split("The scheduler has a log")[0])
    )
    assert {"tick.summary", "run.late", "task.deactivated"} <= events <= documented_events().keys()
    assert "lag_seconds" in fields
    assert fields <= fields_of_every_line().union(*documented_events().values())
