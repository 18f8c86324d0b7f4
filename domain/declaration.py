"""Tasks as a file declares them: found by name, and compared with what there is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain.errors import Conflict
from domain.task import Task, TaskDefinition, TaskStatus, is_same

STATUS = "status"


class Action(StrEnum):
    """What becomes of a task."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A task as declared: what is not named has its default, but a status and signing secrets stay as they are."""

    definition: TaskDefinition
    status: TaskStatus | None = None
    keeps_signing_secrets: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, of TaskDefinition or the status, before and after."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is done to the task of a name; `id` is None until it is created."""

    action: Action
    name: str
    id: UUID | None = None
    declaration: Declaration | None = None
    differences: Sequence[Difference] = field(default=())

    @property
    def definition_changes(self) -> dict[str, Any]:
        return {one.field: one.after for one in self.differences if one.field != STATUS}

    @property
    def status(self) -> TaskStatus | None:
        return next((one.after for one in self.differences if one.field == STATUS), None)


def plan(present: Iterable[Task], declared: Sequence[Declaration], *, prune: bool) -> list[Change]:
    """One change for each declaration, in their order, and with `prune` deletions of what is not declared.

    Raises Conflict when a declared name is that of more than one task: nobody can know which is meant.
    """
    present_of: dict[str, list[Task]] = {}
    for task in present:
        present_of.setdefault(task.definition.name, []).append(task)
    names = {declaration.definition.name for declaration in declared}
    for name in names:
        check_is_unambiguous(name, present_of.get(name, ()))
    changes = [_change(present_of.get(one.definition.name, ()), one) for one in declared]
    if prune:
        changes += [
            Change(action=Action.DELETE, name=name, id=task.id)
            for name, tasks in sorted(present_of.items())
            for task in tasks
            if name not in names
        ]
    return changes


def check_is_unambiguous(name: str, tasks: Sequence[Task]) -> None:
    if len(tasks) > 1:
        ids = " and ".join(sorted(str(task.id) for task in tasks)[:2])
        raise Conflict(
            f"{len(tasks)} tasks are named '{name}' ({ids}), and a file finds a task by its name; rename all but one."
        )


def _change(present: Sequence[Task], declaration: Declaration) -> Change:
    name = declaration.definition.name
    if not present:
        return Change(action=Action.CREATE, name=name, declaration=declaration)
    (task,) = present
    differences = _differences(task, declaration)
    action = Action.UPDATE if differences else Action.UNCHANGED
    return Change(action=action, name=name, id=task.id, declaration=declaration, differences=differences)


def _differences(task: Task, declaration: Declaration) -> list[Difference]:
    found = [
        Difference(name, before, after)
        for name in TaskDefinition.__slots__
        if not (name == "signing_secrets" and declaration.keeps_signing_secrets)
        if not is_same(
            before := getattr(task.definition, name), after := getattr(declaration.definition, name)
        )
    ]
    if _is_status_changed(task.status, declaration.status, is_changed=bool(found)):
        found.append(Difference(STATUS, task.status, declaration.status))
    return found


def _is_status_changed(present: TaskStatus, wanted: TaskStatus | None, *, is_changed: bool) -> bool:
    """A completed task has done what its declaration says; only a change of it makes it active or inactive."""
    if wanted is None or wanted is present:
        return False
    return present is not TaskStatus.COMPLETED or (is_changed and wanted is TaskStatus.INACTIVE)
