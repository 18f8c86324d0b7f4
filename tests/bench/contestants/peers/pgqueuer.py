"""PgQueuer: one consumer, its jobs enqueued beforehand, calls with aiohttp.

As its documentation's quick start has it (https://janbjorge.github.io/pgqueuer/): PgQueuer over asyncpg, an
asynchronous entrypoint, one batch of enqueued jobs, `drain` to stop when all is done; batches of 250 and 500 jobs at
once, far above its defaults, in its favour. aiohttp with one session, as its documentation asks for. Its log has the
jobs' numbers, which count the webhooks. In its favour it computes no next run.
"""

import asyncio
import json
import os
import ssl
from collections.abc import Sequence

import aiohttp
import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from tests.bench.webhooks import Webhook

AT_ONCE = 500


def prepare(webhooks: Sequence[Webhook]) -> None:
    asyncio.run(enqueue([json.dumps([webhook.url, webhook.payload]).encode() for webhook in webhooks]))


async def enqueue(payloads: Sequence[bytes]) -> None:
    connection = await asyncpg.connect()
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.enqueue(["deliver"] * len(payloads), list(payloads), [0] * len(payloads))
    await connection.close()


def make_due() -> None:
    """Enqueued jobs are due."""


def run() -> None:
    asyncio.run(work())


async def work() -> None:
    connection = await asyncpg.connect()
    consumer = PgQueuer(AsyncpgDriver(connection))
    trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    connector = aiohttp.TCPConnector(limit=AT_ONCE, ssl=trust)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:

        @consumer.entrypoint("deliver")  # type: ignore[untyped-decorator] # its types are not here
        async def deliver(job: Job) -> None:
            url, payload = json.loads(job.payload or b"")
            async with session.post(url, json=payload) as response:
                response.raise_for_status()
                await response.read()

        await consumer.qm.run(
            batch_size=AT_ONCE // 2, max_concurrent_tasks=AT_ONCE, mode=QueueExecutionMode.drain
        )
    await connection.close()


def outcomes() -> list[tuple[int, str]]:
    return asyncio.run(read_log())


async def read_log() -> list[tuple[int, str]]:
    connection = await asyncpg.connect()
    rows = await connection.fetch("SELECT job_id, status::text FROM pgqueuer_log WHERE status = 'successful'")
    await connection.close()
    return [(row["job_id"] - 1, "success") for row in rows]
