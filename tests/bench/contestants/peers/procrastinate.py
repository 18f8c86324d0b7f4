"""procrastinate: one worker, its jobs deferred beforehand in one batch, calls with aiohttp.

As its documentation has it: the quick start's App over PsycopgConnector (https://procrastinate.readthedocs.io/), an
asynchronous task, `batch_defer_async` ("Defer multiple jobs at once"), and a worker with `concurrency`, as "Launch a
worker" and "Have multiple jobs run concurrently" say; `wait=False` stops it when all is done. Its table of jobs is
its log. In its favour it computes no next run.
"""

import asyncio
import os
import ssl
from collections.abc import Sequence

import aiohttp
import procrastinate
import psycopg

from tests.bench.webhooks import Webhook

AT_ONCE = 100

app = procrastinate.App(connector=procrastinate.PsycopgConnector())
sessions: list[aiohttp.ClientSession] = []


@app.task  # type: ignore[untyped-decorator] # its types are not here
async def deliver(number: int, url: str, payload: dict[str, object]) -> None:
    async with sessions[0].post(url, json=payload) as response:
        response.raise_for_status()
        await response.read()


def prepare(webhooks: Sequence[Webhook]) -> None:
    asyncio.run(defer([{"number": one.number, "url": one.url, "payload": one.payload} for one in webhooks]))


async def defer(jobs: list[dict[str, object]]) -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await deliver.batch_defer_async(*jobs)


def make_due() -> None:
    """Deferred jobs are due."""


def run() -> None:
    asyncio.run(work())


async def work() -> None:
    trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    connector = aiohttp.TCPConnector(limit=AT_ONCE, ssl=trust)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        sessions.append(session)
        async with app.open_async():
            await app.run_worker_async(concurrency=AT_ONCE, wait=False, install_signal_handlers=False)


def outcomes() -> list[tuple[int, str]]:
    with psycopg.connect() as connection:
        rows = connection.execute("SELECT (args->>'number')::int, status::text FROM procrastinate_jobs")
        return [(number, "success" if status == "succeeded" else status) for number, status in rows]
