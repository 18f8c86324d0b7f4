"""Each promise of docs/guarantees.md names the tests that hold it, and these tests are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from domain.run import RunStatus
from domain.task import TaskStatus

ROOT = Path(__file__).parents[2]
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()
STATES = (ROOT / "docs/state-machine.md").read_text()
TEST = r"`(tests/[\w/]+\.py)::(\w+)`"
PROMISES = re.findall(r"^(\d+)\. \*\*(.*?)(?=^\d+\. |^#|^When )", GUARANTEES, re.DOTALL | re.MULTILINE)


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_promises_are_found_and_counted_through() -> None:
    assert [int(number) for number, _ in PROMISES] == list(range(1, len(PROMISES) + 1))
    assert len(PROMISES) == GUARANTEES.count(". **") >= 20


@pytest.mark.parametrize(("number", "promise"), PROMISES, ids=[number for number, _ in PROMISES])
def test_a_promise_names_a_test_that_holds_it(number: str, promise: str) -> None:
    assert re.search(TEST, promise), f"promise {number} has no test"


@pytest.mark.parametrize(("file", "name"), sorted(set(re.findall(TEST, GUARANTEES))))
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    assert name in names_in(file)


@pytest.mark.parametrize(("status", "picture"), [*((s, 0) for s in RunStatus), *((s, 1) for s in TaskStatus)])
def test_each_status_is_in_its_picture_and_its_table(status: str, picture: int) -> None:
    diagram = re.findall(r"^```mermaid\n(.*?)^```$", STATES, re.DOTALL | re.MULTILINE)[picture]
    assert re.search(rf"\b{status}\b", diagram)
    assert re.search(rf"^\|[^|]*`{status}`", STATES, re.MULTILINE)
