"""The logs of deleted tasks: hidden at once, removed by ticks."""

from uuid import UUID

from db.deleted_tasks import delete_logs_of_deleted_tasks
from db.engine import transaction
from db.tasks import delete_task
from domain.task import TaskStatus
from tests.integration.conftest import Insignia


def test_the_long_history_of_a_deleted_task_is_hidden_at_once_and_removed_by_ticks(
    insignia: Insignia,
) -> None:
    task = insignia.create("http://127.0.0.1:9/", status=TaskStatus.INACTIVE)
    write_history(insignia, task.id, 2_500)
    with transaction(insignia.engine) as connection:
        delete_task(connection, task.id)
    assert insignia.logs() == []
    assert insignia.execute("SELECT count(*) FROM task_logs").scalar_one() == 1500
    insignia.tick()
    assert insignia.execute("SELECT count(*) FROM task_logs").scalar_one() == 0
    assert insignia.execute("SELECT count(*) FROM deleted_tasks").scalar_one() == 0


def test_a_deleted_task_is_not_forgotten_while_another_tick_removes_its_logs(insignia: Insignia) -> None:
    task = insignia.create("http://127.0.0.1:9/", status=TaskStatus.INACTIVE)
    write_history(insignia, task.id, 1_200)
    with transaction(insignia.engine) as connection:
        delete_task(connection, task.id)
    with insignia.engine.connect() as another:
        assert delete_logs_of_deleted_tasks(another, 100)
        insignia.tick()
        another.rollback()
    assert insignia.execute("SELECT count(*) FROM task_logs").scalar_one() == 200
    assert insignia.logs() == []
    insignia.tick()
    assert insignia.execute("SELECT count(*) FROM task_logs").scalar_one() == 0


def write_history(insignia: Insignia, task_id: UUID, logs: int) -> None:
    insignia.execute(
        "INSERT INTO task_logs"
        " (id, task_id, source, status, execution_time, retry_count, attempts, lost_leases, throttles, created_at)"
        " SELECT gen_random_uuid(), :id, 'api', 'success', clock_timestamp(), 0, '[]', 0, 0, clock_timestamp()"
        " FROM generate_series(1, :logs)",
        id=task_id,
        logs=logs,
    )
