"""What the API costs beside a bare app (bare_app.py): CPU from the start of the process to its first answer, and
for each `GET` of one task. Both are served by functions-framework as it is in production.
"""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.engine import make_engine, transaction
from db.migrations import upgrade
from db.tasks import create_task
from domain.task import TaskDefinition, TaskStatus
from tests.bench.child import KEPT, ROOT, BenchmarkFailed
from tests.bench.cluster import TICK_SECONDS, Cluster
from tests.bench.report import Samples
from tests.bench.scenarios import FLOOR, OURS

TOKEN = "a-token-of-the-benchmark"
SERVERS = {OURS: ("api", ROOT / "main.py"), FLOOR: ("bare", Path(__file__).parent / "bare_app.py")}
REQUESTS = 300
START_SECONDS = 30


def run(cluster: Cluster, *, rounds: int) -> Samples:
    """The samples, in ms: `api/insignia/cold_start_cpu`, `api/floor/get_cpu` and so on."""
    samples: Samples = defaultdict(list)
    url = cluster.create_database("of_servers")
    upgrade(url)
    with transaction(make_engine(url, pool_size=0)) as connection:
        definition = TaskDefinition(
            name="One", schedule="0 9 * * *", webhook_url="https://example.com/hook", payload={"a": 1}
        )
        path = f"/tasks/{create_task(connection, definition, TaskStatus.ACTIVE).id}"
    for number in range(1, rounds + 1):
        for name in SERVERS:
            with served(name, url) as (server, port):
                get(port, path, 1)
                at_first = cpu_seconds(server.pid)
                get(port, path, REQUESTS // 10)
                before = cpu_seconds(server.pid)
                get(port, path, REQUESTS)
                cost = (cpu_seconds(server.pid) - before) / REQUESTS
            samples[f"api/{name}/cold_start_cpu"].append(at_first * 1e3)
            samples[f"api/{name}/get_cpu"].append(cost * 1e3)
            shown = f"first answer {at_first * 1e3:.0f} ms, GET {cost * 1e3:.2f} ms"
            print(f"api, round {number} of {rounds}: {name} {shown}", file=sys.stderr)
    return dict(samples)


@contextmanager
def served(name: str, url: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The server's process and port, once it listens."""
    target, source = SERVERS[name]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = {
        "K_SERVICE": "api",
        "API_TOKEN": TOKEN,
        "DATABASE_URL": url,
        "PORT": str(port),
        "LOG_LEVEL": "ERROR",
    }
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "functions_framework",
            f"--target={target}",
            f"--source={source}",
            "--host=127.0.0.1",
        ],
        env={one: os.environ[one] for one in KEPT if one in os.environ} | settings,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(server, port)
        yield server, port
    finally:
        server.terminate()
        server.wait()


def wait_until_listening(server: subprocess.Popen[bytes], port: int) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < ends_at:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise BenchmarkFailed(f"{server.args!r} did not listen within {START_SECONDS} s")


def get(port: int, path: str, number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    for _ in range(number):
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or b'"One"' not in body:
            raise BenchmarkFailed(f"GET {path} answered {answer.status}: {body[:200]!r}")
    connection.close()


def cpu_seconds(process: int) -> float:
    """Of a process and its children, with all their threads."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if process in (int(stat.parent.name), int(fields[1])):
            ticks += int(fields[11]) + int(fields[12])
    return ticks * TICK_SECONDS
