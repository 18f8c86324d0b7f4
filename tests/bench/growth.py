"""How the cost of a statement grows with the number of tasks and logs: the same in a small and in a big database.

Times are of the whole way, from Python and back; each round takes the 95th percentile of its repetitions of what
people wait for, and the median of what a tick does.
"""

import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import select, text

from db.claiming import Room
from db.engine import Connection, transaction
from db.paging import Page, Position
from db.slot_claims import claim_slots
from db.stats import read_stats
from db.tables import tasks
from db.task_logs import TaskLogFilter, list_task_logs
from db.tasks import TaskFilter, delete_task, list_tasks
from domain.run import TaskLogOrder
from domain.task import TaskOrder
from tests.bench.cluster import Cluster
from tests.bench.filled import Filled, fill
from tests.bench.measure import percentile
from tests.bench.report import Samples

SMALL, MIDDLE, BIG = 1_000, 10_000, 1_000_000
DUE = 100
REPETITIONS = 40
PAGE = Page(limit=100, is_by_cursor=True)

Work = Callable[[], object]


def page_by_cursor(connection: Connection, filled: Filled) -> Work:
    """A page from a random place."""
    return page_after(connection, random.randrange(filled.tasks))


def last_page(connection: Connection, filled: Filled) -> Work:
    """Page 10,000 of 1,000,000 tasks."""
    return page_after(connection, filled.tasks - PAGE.limit - 1)


def page_after(connection: Connection, place: int) -> Work:
    rows = select(tasks.c.name, tasks.c.id).order_by(tasks.c.name, tasks.c.id).offset(place).limit(1)
    page = replace(PAGE, after=Position(*connection.execute(rows).one()))
    return lambda: list_tasks(connection, TaskFilter(), TaskOrder.NAME, page)


def newest_logs(connection: Connection, _: Filled) -> Work:
    return lambda: list_task_logs(connection, TaskLogFilter(), TaskLogOrder.NEWEST, PAGE)


def search(connection: Connection, filled: Filled) -> Work:
    """By eight characters from the middle of a name; one task has them, or a few."""
    number = random.randrange(1, filled.tasks)
    part = connection.execute(
        text("SELECT substr(md5(CAST(:n AS text)), 12, 8)"), {"n": str(number)}
    ).scalar_one()
    return lambda: list_tasks(connection, TaskFilter(search=part), TaskOrder.NAME, PAGE)


def page_with_total(connection: Connection, _: Filled) -> Work:
    page = Page(limit=100, skip=200)
    return lambda: list_tasks(connection, TaskFilter(), TaskOrder.CREATED_AT_DESCENDING, page)


def stats(connection: Connection, _: Filled) -> Work:
    return lambda: read_stats(connection, 24)


def claim(connection: Connection, _: Filled) -> Work:
    room = Room(
        calls=DUE,
        per_destination=64,
        in_flight=Counter(),
        payload_bytes=32 * 1024 * 1024,
        max_timeout_seconds=45,
    )
    return lambda: claim_slots(connection, room)


def statement_of_nothing(connection: Connection, _: Filled) -> Work:
    return lambda: connection.execute(text("SELECT 1")).scalar_one()


READINGS = {
    "page_by_cursor": page_by_cursor,
    "last_page": last_page,
    "newest_logs": newest_logs,
    "search": search,
    "page_with_total": page_with_total,
    "stats": stats,
}


def run(*, logs: int, rounds: int, big: int = BIG) -> Samples:
    """The samples, in ms: `growth/READING/small`, `.../big`, and how often the one is in the other, `.../ratio`."""
    samples: Samples = defaultdict(list)
    with Cluster(fsync="off", max_wal_size="8GB") as cluster:
        of_size = {}
        for number in (SMALL, min(MIDDLE, big), big):
            print(f"growth: making a database of {number:,} tasks", file=sys.stderr)
            url = cluster.create_database(f"of_{number}")
            of_size[number] = fill(url, tasks=number, logs=logs if number == big else number)
            cluster.come_to_rest(url)
        small, middle, filled = of_size[SMALL], of_size[min(MIDDLE, big)], of_size[big]
        for number in range(1, rounds + 1):
            print(f"growth: round {number} of {rounds}", file=sys.stderr)
            for name, reading in READINGS.items():
                compare(samples, name, milliseconds(small, reading), milliseconds(filled, reading))
            idle = milliseconds(filled, claim, 0.5) - milliseconds(filled, statement_of_nothing, 0.5)
            samples["growth/nothing_due/big"].append(max(idle, 0))
            for one in (middle, filled):
                make_due(one, DUE)
            compare(samples, "claim", milliseconds(middle, claim, 0.5), milliseconds(filled, claim, 0.5))
            for one in (middle, filled):
                make_due(one, 0)
        with transaction(filled.engine) as connection:
            began_at = time.perf_counter()
            delete_task(connection, filled.talkative)
        samples["growth/delete_with_logs/big"].append((time.perf_counter() - began_at) * 1e3)
        for one in of_size.values():
            one.engine.dispose()
    return dict(samples)


def compare(samples: Samples, name: str, small: float, big: float) -> None:
    samples[f"growth/{name}/small"].append(small)
    samples[f"growth/{name}/big"].append(big)
    samples[f"growth/{name}/ratio"].append(big / small)


def milliseconds(filled: Filled, prepare: Callable[[Connection, Filled], Work], share: float = 0.95) -> float:
    """What this share of the repetitions took at most; what is done is rolled back."""
    times = []
    with filled.engine.connect() as connection:
        for _ in range(REPETITIONS):
            work = prepare(connection, filled)
            began_at = time.perf_counter()
            work()
            times.append((time.perf_counter() - began_at) * 1e3)
            connection.rollback()
    return percentile(sorted(times), share)


def make_due(filled: Filled, number: int) -> None:
    """So many tasks are due now, and the others in a year."""
    with transaction(filled.engine) as connection:
        connection.execute(
            text("""
                UPDATE task_state SET next_run_at = CASE
                    WHEN task_id IN (SELECT md5('task' || n)::uuid FROM generate_series(1, :number) n)
                    THEN statement_timestamp() ELSE statement_timestamp() + interval '1 year' END
                WHERE task_id IN (SELECT md5('task' || n)::uuid FROM generate_series(1, :due) n)
            """),
            {"number": number, "due": DUE},
        )
