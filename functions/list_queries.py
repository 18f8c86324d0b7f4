"""The wire models of lists: which of them, in which order, which page."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from db.paging import Page
from db.task_logs import TaskLogFilter
from db.tasks import TaskFilter
from domain.run import RunSource, RunStatus, TaskLogOrder
from domain.task import TaskOrder, TaskStatus
from functions.fields import Limit, PageToken, Search, SentId, Since, Skip, Tag, Until
from functions.paging import decoded


class _ListQuery(BaseModel):
    skip: Skip = 0
    limit: Limit = 100
    since: Since = None
    until: Until = None


def _page_token(token: str | None, info: ValidationInfo) -> str | None:
    if token and "order_by" in info.data:
        decoded(info.data["order_by"], token)
    if token is not None and info.data.get("skip"):
        raise PydanticCustomError("skip_or_page_token", "skip or page_token")
    return token


CheckedPageToken = Annotated[PageToken, AfterValidator(_page_token)]


class TaskQuery(_ListQuery):
    status: Annotated[TaskStatus | None, Field(description="Only tasks with this status.")] = None
    search: Search = None
    tag: Tag = None
    order_by: Annotated[
        TaskOrder,
        Field(description="`-` is descending; by `next_run_at` only tasks that have one are listed."),
    ] = TaskOrder.CREATED_AT
    page_token: CheckedPageToken = None

    def wanted(self) -> TaskFilter:
        return TaskFilter(**self.model_dump(include=set(TaskFilter.__slots__)))


class TaskLogsOfTaskQuery(_ListQuery):
    status: Annotated[RunStatus | None, Field(description="Only logs with this status.")] = None
    source: Annotated[RunSource | None, Field(description="Only logs from this source.")] = None
    order_by: Annotated[TaskLogOrder, Field(description="`-` is newest first.")] = TaskLogOrder.NEWEST
    page_token: CheckedPageToken = None

    def wanted(self) -> TaskLogFilter:
        return TaskLogFilter(**self.model_dump(include=set(TaskLogFilter.__slots__)))


class TaskLogQuery(TaskLogsOfTaskQuery):
    task_id: Annotated[SentId | None, Field(description="Only logs of this task.")] = None


def page_of(query: TaskQuery | TaskLogsOfTaskQuery) -> Page:
    """The page that a list is asked for."""
    after = decoded(query.order_by, query.page_token) if query.page_token else None
    is_by_cursor = query.page_token is not None
    return Page(limit=query.limit, skip=query.skip, is_by_cursor=is_by_cursor, after=after)
