"""The wire models of tasks as code."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, field_validator

from domain.declaration import Action, Change, Declaration, Difference
from domain.errors import InvalidInput
from domain.task import Task, TaskDefinition, TaskStatus
from domain.webhook_url import redacted
from functions.fields import MASK, Id
from functions.request_body import MAX_BODY_BYTES
from functions.schemas import Answer, Sent, TaskCreate, masked_url

MAX_TASKS = 5_000


class TaskFile(Answer):
    """All tasks, as POST /tasks/apply takes them: a field that is left out has its default."""

    tasks: list[TaskCreate]

    @classmethod
    def of(cls, tasks: list[Task]) -> Self:
        return cls(tasks=[_as_created(task) for task in tasks])

    def masked(self) -> Self:
        return self.model_copy(update={"tasks": [_masked(task) for task in self.tasks]})


def _as_created(task: Task) -> TaskCreate:
    """What creates this task again; one that is completed is not run once more."""
    values = {name: getattr(task.definition, name) for name in TaskDefinition.__slots__}
    values["signing_secret"] = values.pop("signing_secrets")
    status = "active" if task.status is TaskStatus.ACTIVE else "inactive"
    return TaskCreate.model_construct(**values, status=status)


def _masked(task: TaskCreate) -> TaskCreate:
    return task.model_copy(
        update={
            "webhook_url": masked_url(task.webhook_url),
            "notify_url": task.notify_url and masked_url(task.notify_url),
            "headers": dict.fromkeys(task.headers, MASK),
            "signing_secret": (MASK,) * len(task.signing_secret),
        }
    )


class TasksApply(Sent):
    """Tasks as they should be, each known by its name."""

    tasks: Annotated[
        list[TaskCreate],
        Field(
            max_length=MAX_TASKS,
            description="All fields of a task as when it is created; those left out get their defaults, but "
            "`status` and `signing_secret` stay as they are.",
        ),
    ]
    prune: Annotated[StrictBool, Field(description="Whether tasks of other names are deleted.")] = False
    dry_run: Annotated[
        StrictBool, Field(description="Whether to tell only what would be done, and do nothing.")
    ] = False

    @field_validator("tasks")
    @classmethod
    def _each_name_once(cls, tasks: list[TaskCreate]) -> list[TaskCreate]:
        counts = Counter(task.name for task in tasks)
        for name, count in counts.items():
            if count > 1:
                raise InvalidInput(f"{count} tasks are named '{name}'; a task is known by its name.")
        for task in tasks:
            if len(json.dumps(task.payload, ensure_ascii=False).encode()) > MAX_BODY_BYTES:
                raise InvalidInput(
                    f"The payload of task '{task.name}' is larger than {MAX_BODY_BYTES // 1024} KiB; send less."
                )
        return tasks

    def declarations(self) -> list[Declaration]:
        return [
            Declaration(
                definition=task.definition(),
                status=TaskStatus(task.status) if "status" in task.model_fields_set else None,
                keeps_signing_secrets="signing_secret" not in task.model_fields_set,
            )
            for task in self.tasks
        ]


class FieldChange(Answer):
    """A field before and after; secrets are shown as a mask or a short hash."""

    field: str = Field(examples=["schedule"])
    before: Any = Field(examples=["0 8 * * *"])
    after: Any = Field(examples=["30 8 * * *"])


class TaskChange(Answer):
    """What is done to the task of a name."""

    action: Action
    name: str = Field(examples=["Daily report"])
    id: Id | None = Field(description="Null for a task that only would be created.")
    changes: list[FieldChange]


class Applied(Answer):
    """What was done, or with `dry_run` what would be."""

    dry_run: bool
    created: int = Field(examples=[1])
    updated: int
    deleted: int
    unchanged: int
    tasks: list[TaskChange]

    @classmethod
    def of(cls, changes: list[Change], *, dry_run: bool) -> Self:
        counts = Counter(change.action for change in changes)
        return cls(
            dry_run=dry_run,
            created=counts[Action.CREATE],
            updated=counts[Action.UPDATE],
            deleted=counts[Action.DELETE],
            unchanged=counts[Action.UNCHANGED],
            tasks=[
                TaskChange(
                    action=change.action,
                    name=change.name,
                    id=change.id,
                    changes=[_shown(one) for one in change.differences],
                )
                for change in changes
            ],
        )


def _shown(difference: Difference) -> FieldChange:
    before, after = difference.before, difference.after
    match difference.field:
        case "webhook_url":
            before, after = redacted(before), redacted(after)
        case "notify_url":
            before, after = before and redacted(before), after and redacted(after)
        case "headers":
            before, after = _headers(before, {}), _headers(after, before)
        case "signing_secrets":
            before, after = (f"{len(secrets)} secrets" for secrets in (before, after))
            return FieldChange(field="signing_secret", before=before, after=after)
    return FieldChange(field=difference.field, before=before, after=after)


def _headers(headers: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    return {
        name: f"{MASK} (changed)" if before.get(name, value) != value else MASK
        for name, value in headers.items()
    }
