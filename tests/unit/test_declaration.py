from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.declaration import Action, Change, Declaration, Difference, plan
from domain.errors import Conflict
from domain.task import Task, TaskDefinition, TaskStatus

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECRET = ("whsec_" + "A" * 32,)


def definition(name: str = "A", **fields: Any) -> TaskDefinition:
    return TaskDefinition(
        name=name, **{"schedule": "0 0 1 1 *", "webhook_url": "https://hooks.example.com/"} | fields
    )


def stored(of: TaskDefinition, number: int = 1, status: TaskStatus = TaskStatus.ACTIVE) -> Task:
    return Task(
        id=UUID(int=number),
        definition=of,
        status=status,
        revision=1,
        next_run_at=None,
        last_run_at=None,
        last_status=None,
        consecutive_failures=0,
        deactivated_at=None,
        deactivated_reason=None,
        created_at=NOW,
        updated_at=NOW,
    )


def change(present: Task | None, declared: Declaration) -> Change:
    (found,) = plan([present] if present else [], [declared], prune=False)
    return found


def test_what_is_not_there_is_created() -> None:
    declared = Declaration(definition=definition())
    assert change(None, declared) == Change(action=Action.CREATE, name="A", declaration=declared)


def test_what_is_as_declared_stays() -> None:
    found = change(stored(definition()), Declaration(definition=definition(), status=TaskStatus.ACTIVE))
    assert (found.action, found.id, found.differences) == (Action.UNCHANGED, UUID(int=1), [])


def test_each_difference_is_named() -> None:
    declared = definition(payload={"a": 1}, max_retry=5)
    found = change(stored(definition()), Declaration(definition=declared, status=TaskStatus.INACTIVE))
    assert found.action is Action.UPDATE
    assert found.differences == [
        Difference("payload", {}, {"a": 1}),
        Difference("max_retry", 3, 5),
        Difference("status", TaskStatus.ACTIVE, TaskStatus.INACTIVE),
    ]
    assert found.definition_changes == {"payload": {"a": 1}, "max_retry": 5}
    assert found.status is TaskStatus.INACTIVE


@pytest.mark.parametrize(
    ("before", "after"),
    [([1], [True]), ({"a": 1}, {"a": 1.0}), (1, True), (1, 1.0), ({"a": 1, "b": 2}, {"b": 2, "a": 1})],
)
def test_payloads_differ_as_json_does(before: Any, after: Any) -> None:
    found = change(stored(definition(payload=before)), Declaration(definition=definition(payload=after)))
    assert found.action is Action.UPDATE


def test_a_status_and_secrets_that_are_not_named_stay() -> None:
    task = stored(definition(signing_secrets=SECRET), status=TaskStatus.INACTIVE)
    assert (
        change(task, Declaration(definition=definition(), keeps_signing_secrets=True)).action
        is Action.UNCHANGED
    )
    removed = change(task, Declaration(definition=definition()))
    assert removed.differences == [Difference("signing_secrets", SECRET, ())]


@pytest.mark.parametrize("status", [TaskStatus.ACTIVE, TaskStatus.INACTIVE, None])
def test_a_completed_task_has_done_what_is_declared(status: TaskStatus | None) -> None:
    once: dict[str, Any] = {"schedule": None, "run_at": NOW}
    task = stored(definition(**once), status=TaskStatus.COMPLETED)
    assert change(task, Declaration(definition=definition(**once), status=status)).action is Action.UNCHANGED
    later = definition(**once | {"run_at": NOW.replace(year=2027)})
    expected = TaskStatus.INACTIVE if status is TaskStatus.INACTIVE else None
    assert change(task, Declaration(definition=later, status=status)).status is expected


def test_only_prune_deletes_what_is_not_declared() -> None:
    present = [stored(definition(name), number) for number, name in enumerate("BAA", start=1)]
    assert plan(present, [], prune=False) == []
    assert [(one.action, one.name) for one in plan(present, [], prune=True)] == [
        (Action.DELETE, "A"),
        (Action.DELETE, "A"),
        (Action.DELETE, "B"),
    ]


def test_a_declared_name_of_two_tasks_is_ambiguous() -> None:
    present = [stored(definition(), 1), stored(definition(), 2), stored(definition("B"), 3)]
    with pytest.raises(Conflict, match=r"2 tasks are named 'A' \(.*-000000000001 and .*-000000000002\)"):
        plan(present, [Declaration(definition=definition())], prune=False)
    renamed = replace(definition(), name="B")
    assert plan(present, [Declaration(definition=renamed)], prune=False)[0].action is Action.UNCHANGED
