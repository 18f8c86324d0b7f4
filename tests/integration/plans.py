"""What each statement reads beside 50,000 tasks and 100,000 logs: its plan, as it was carried out.

auto_explain tells it of each statement that our code sends, within its own session, so that none is copied here, and
a plan that the server keeps is the one that is looked at. The rows are real, because the planner goes by the sizes of
files, whatever statistics say, and because a plan knows the rows it read only when it has read them. So many are made
in three seconds, and are enough: what is read for a page or a batch is hundreds of rows, and as many of 1,000,000.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, event, text

from db.engine import Connection

TASKS, LOGS = 50_000, 100_000
BIG = {"tasks", "task_state", "task_logs"}
MOST_ROWS = 2_000
"""Read of a big table by one step of a plan: some for each row of a page (100) or of a batch."""

FIRST_COPY = UUID(md5(b"task1", usedforsecurity=False).hexdigest())
EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "client_min_messages": "log",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
}

Json = dict[str, Any]
Work = Callable[[Connection], object]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the plan of a statement that reads a big table."""

    kind: str
    table: str
    index: str | None
    rows: int
    statement: str


def explain_all(admin: Connection, database: str) -> None:
    """In the sessions that begin from now on."""
    for name, value in EXPLAIN.items():
        admin.execute(text(f"ALTER DATABASE {database} SET {name} = '{value}'"))


@contextmanager
def plans_of(engine: Engine) -> Iterator[list[Json]]:
    """The plans of what is executed meanwhile, as they come."""
    plans: list[Json] = []

    def take(connection: Connection, *_: object) -> None:
        notices = connection.connection.dbapi_connection.notices  # type: ignore[union-attr]
        while notices:
            _, is_plan, plan = notices.popleft()[b"M"].decode().partition("plan:\n")
            if is_plan:
                plans.append(json.loads(plan))

    event.listen(engine, "after_cursor_execute", take)
    yield plans
    event.remove(engine, "after_cursor_execute", take)


def steps_of(plan: Json) -> Iterator[Step]:
    def walk(node: Json) -> Iterator[Step]:
        removed = sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
        rows = round((node["Actual Rows"] + removed) * node["Actual Loops"])
        table = node.get("Relation Name") or node.get("Index Name", "").partition("_pkey")[0]
        if node["Actual Loops"]:
            yield Step(node["Node Type"], table, node.get("Index Name"), rows, plan["Query Text"])
        for child in node.get("Plans", ()):
            yield from walk(child)

    return walk(plan["Plan"])


def steps(engine: Engine, work: Work) -> list[Step]:
    """The steps of all plans of the work, which is rolled back."""
    with plans_of(engine) as plans, engine.connect() as connection:
        work(connection)
        connection.execute(text("SELECT 1"))  # the server tells of a statement when the next one comes
    assert plans, "auto_explain tells of nothing"
    return [step for plan in plans for step in steps_of(plan)]


def wasteful(found: list[Step]) -> list[Step]:
    """The steps that read a whole table, or more rows than are needed, or sort so many."""
    return [
        step for step in found if step.rows > MOST_ROWS or (step.kind == "Seq Scan" and step.table in BIG)
    ]
