"""The job that calls `tick`: Google's own client, over REST, against a Cloud Scheduler made here."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    GoogleAPICallError,
    NotFound,
)
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.scheduler_v1.types import HttpTarget, Job, OidcToken, PubsubTarget, RetryConfig
from google.oauth2.credentials import Credentials

from functions import command_line, health
from functions.cloud_scheduler import MANAGED, NoSuchJob, SchedulerError, TickJob
from tests.acceptance.server import ROOT
from tests.cloud_scheduler import JOB, LOCATION, CloudScheduler
from tests.google_accounts import ACCOUNT, GoogleAccounts

URL = "https://tick.example.com"
TOKEN = "an-access-token"


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleAccounts]:
    with GoogleAccounts() as google:
        yield google


@pytest.fixture
def scheduler(google: GoogleAccounts) -> Iterator[CloudScheduler]:
    with CloudScheduler(google) as scheduler:
        yield scheduler


def job_at(scheduler: CloudScheduler, name: str = JOB, token: str = TOKEN, **options: float) -> TickJob:
    credentials = Credentials(token)  # type: ignore[no-untyped-call]
    return TickJob(name, credentials=credentials, api_endpoint=scheduler.endpoint, **options)


@pytest.fixture
def job(scheduler: CloudScheduler) -> TickJob:
    return job_at(scheduler)


def test_a_job_that_is_not_there_is_made_as_terraform_makes_it(
    scheduler: CloudScheduler, job: TickJob
) -> None:
    state = job.ensure(URL, ACCOUNT)
    assert (state.state, state.url, state.last_at, state.last_error) == (
        "enabled",
        f"{URL}/tick",
        None,
        None,
    )
    made = scheduler.jobs[JOB]
    text = (ROOT / "terraform/scheduler.tf").read_text()
    (seconds,) = re.findall(r"timeout_seconds += (\d+)", (ROOT / "terraform/locals.tf").read_text())
    for name, field in (("description", "description"), ("schedule", "schedule"), ("time_zone", "timeZone")):
        assert [made[field]] == re.findall(rf'^  {name} += "(.*)"$', text, re.MULTILINE)
    assert 'attempt_deadline = "${local.timeout_seconds}s"' in text
    assert made["attemptDeadline"] == f"{seconds}s" == "120s"
    assert (made["schedule"], made["timeZone"], made["retryConfig"]) == ("* * * * *", "Etc/UTC", {})
    assert "retry_count = 0\n" in text
    assert made["httpTarget"] == {
        "uri": f"{URL}/tick",
        "httpMethod": 1,
        "oidcToken": {"serviceAccountEmail": ACCOUNT, "audience": URL},
    }


def test_a_job_that_is_there_is_changed_and_not_made_again(scheduler: CloudScheduler, job: TickJob) -> None:
    job.ensure("https://old.example.com", "old@example.com")
    scheduler.jobs[JOB] |= {
        "schedule": "*/5 * * * *",
        "attemptDeadline": "15s",
        "retryConfig": {"retryCount": 3},
    }
    job.ensure(URL, ACCOUNT)
    changed = dict(scheduler.jobs[JOB])
    job.ensure(URL, ACCOUNT)
    for one in (changed, scheduler.jobs[JOB]):
        assert (one["schedule"], one["attemptDeadline"], one["retryConfig"]) == ("* * * * *", "120s", {})
        assert one["httpTarget"]["oidcToken"] == {"serviceAccountEmail": ACCOUNT, "audience": URL}
    assert [request.method for request in scheduler.api.requests] == ["PATCH", "POST", "PATCH", "PATCH"]


def test_a_paused_job_stays_paused_when_it_is_ensured(job: TickJob) -> None:
    job.ensure(URL, ACCOUNT)
    assert job.pause().state == "paused"
    assert job.ensure(URL, ACCOUNT).state == "paused"


def test_pausing_and_resuming_twice_is_once(scheduler: CloudScheduler, job: TickJob) -> None:
    job.ensure(URL, ACCOUNT)
    for change, state in ((job.pause, "paused"), (job.resume, "enabled")):
        assert change().state == change().state == job.read().state == state


def test_a_job_in_another_state_is_not_said_to_be_paused(scheduler: CloudScheduler, job: TickJob) -> None:
    job.ensure(URL, ACCOUNT)
    scheduler.jobs[JOB]["state"] = 4
    assert job.read().state == "update_failed"
    with pytest.raises(SchedulerError, match=r"refused \(400\): Job state must be ENABLED"):
        job.pause()


def test_a_state_that_is_new_is_unknown(scheduler: CloudScheduler, job: TickJob) -> None:
    job.ensure(URL, ACCOUNT)
    scheduler.jobs[JOB]["state"] = 9
    with pytest.warns(UserWarning, match="Unrecognized State enum value"):
        assert job.read().state == "unknown"


@pytest.mark.parametrize("action", ["read", "pause", "resume", "run"])
def test_what_is_not_there_is_told_with_what_makes_it(job: TickJob, action: str) -> None:
    with pytest.raises(
        NoSuchJob, match=r"There is no job .*; make it with `python main\.py scheduler ensure`"
    ):
        getattr(job, action)()


@pytest.mark.parametrize(
    ("name", "token", "complaint"),
    [
        ("projects/another/locations/europe-west1/jobs/j", TOKEN, r"refused \(403\): The principal lacks"),
        (JOB, "another-token", "Google gives no access to Cloud Scheduler"),
    ],
)
def test_a_refusal_says_why(scheduler: CloudScheduler, name: str, token: str, complaint: str) -> None:
    job = job_at(scheduler, name, token)
    for ask in (job.read, job.pause, lambda: job.ensure(URL, ACCOUNT)):
        with pytest.raises(SchedulerError, match=complaint):
            ask()


def test_a_location_that_is_not_there_is_no_place_to_make_a_job(scheduler: CloudScheduler) -> None:
    with pytest.raises(SchedulerError):
        job_at(scheduler, "projects/p/locations/moon/jobs/j").ensure(URL, ACCOUNT)


def test_an_api_that_hangs_or_is_away_ends_in_time_and_is_asked_once(scheduler: CloudScheduler) -> None:
    scheduler.answers.clear()
    began = time.monotonic()
    with pytest.raises(SchedulerError, match="does not answer"):
        job_at(scheduler, call_seconds=0.3).read()
    assert time.monotonic() - began < 5
    assert len(scheduler.api.requests) == 1
    away = TickJob(JOB, credentials=Credentials(TOKEN), api_endpoint="http://127.0.0.1:9")  # type: ignore[no-untyped-call]
    with pytest.raises(SchedulerError, match="does not answer"):
        away.read()


def test_without_credentials_there_is_no_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    with pytest.raises(SchedulerError, match="Google gives no access to Cloud Scheduler"):
        TickJob(JOB)


@pytest.fixture
def client(scheduler: CloudScheduler) -> CloudSchedulerClient:
    """Google's client without ours around it, for what ours never sends."""
    return CloudSchedulerClient(
        transport="rest",
        credentials=Credentials(TOKEN),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": scheduler.endpoint},
    )


def good_job(**changes: Any) -> Job:
    token = OidcToken(service_account_email=ACCOUNT, audience=URL)
    target = HttpTarget(uri=f"{URL}/tick", oidc_token=token)
    fields = {"name": JOB, "schedule": "* * * * *", "http_target": target}
    return Job(fields | changes)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"name": "insignia-tick"}, BadRequest),
        ({"name": f"{LOCATION}/jobs/a.b"}, BadRequest),
        ({"name": f"{LOCATION}/jobs/{'x' * 501}"}, BadRequest),
        ({"name": "projects/p/locations/another/jobs/j"}, BadRequest),
        ({"schedule": ""}, BadRequest),
        ({"schedule": "* * * *"}, BadRequest),
        ({"schedule": "61 * * * *"}, BadRequest),
        ({"time_zone": "Mars/Olympus"}, BadRequest),
        ({"description": "x" * 501}, BadRequest),
        ({"attempt_deadline": timedelta(seconds=14)}, BadRequest),
        ({"attempt_deadline": timedelta(seconds=1801)}, BadRequest),
        ({"retry_config": RetryConfig(retry_count=6)}, BadRequest),
        ({"http_target": None}, BadRequest),
        ({"http_target": HttpTarget(uri="tick.example.com")}, BadRequest),
        ({"http_target": HttpTarget(uri=URL, oidc_token=OidcToken(audience=URL))}, BadRequest),
        ({"http_target": None, "pubsub_target": PubsubTarget(topic_name="t")}, BadRequest),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_scheduler_made_here_refuses_a_bad_job(
    client: CloudSchedulerClient, changes: dict[str, Any], refusal: type[GoogleAPICallError]
) -> None:
    with pytest.raises(refusal):
        client.create_job(parent=LOCATION, job=good_job(**changes), retry=None, timeout=10)


def test_the_scheduler_made_here_refuses_what_is_there_already_or_not_there(
    scheduler: CloudScheduler, client: CloudSchedulerClient
) -> None:
    with pytest.raises(NotFound):
        client.update_job(job=good_job(), update_mask={"paths": ["schedule"]}, retry=None, timeout=10)
    client.create_job(parent=LOCATION, job=good_job(), retry=None, timeout=10)
    with pytest.raises(Conflict):
        client.create_job(parent=LOCATION, job=good_job(), retry=None, timeout=10)
    for mask in ("state", "name", "nonsense"):
        with pytest.raises(BadRequest, match="update mask"):
            client.update_job(job=good_job(), update_mask={"paths": [mask]}, retry=None, timeout=10)
    with pytest.raises(BadRequest, match="Schedule or time zone"):
        client.update_job(
            job=Job(name=JOB, schedule="x"), update_mask={"paths": ["schedule"]}, retry=None, timeout=10
        )
    with pytest.raises(Forbidden):
        client.get_job(name="projects/another/locations/europe-west1/jobs/j", retry=None, timeout=10)
    assert scheduler.jobs[JOB]["schedule"] == "* * * * *"


def test_the_scheduler_made_here_takes_the_url_for_an_audience_that_is_missing(
    scheduler: CloudScheduler, client: CloudSchedulerClient
) -> None:
    target = HttpTarget(uri=f"{URL}/tick", oidc_token=OidcToken(service_account_email=ACCOUNT))
    made = client.create_job(parent=LOCATION, job=good_job(http_target=target), retry=None, timeout=10)
    assert made.http_target.oidc_token.audience == f"{URL}/tick"


def test_the_scheduler_made_here_asks_for_the_scope(
    google: GoogleAccounts, scheduler: CloudScheduler
) -> None:
    google.access_tokens["of-another-scope"] = "https://www.googleapis.com/auth/devstorage.read_only"
    with pytest.raises(SchedulerError, match="Google gives no access"):
        job_at(scheduler, token="of-another-scope").read()


@pytest.fixture
def command(
    scheduler: CloudScheduler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What `python main.py ...` prints; the credentials are those of this machine, so to speak."""
    monkeypatch.setattr(command_line, "TickJob", lambda name: job_at(scheduler, name))
    monkeypatch.setenv("SCHEDULER_JOB", JOB)

    def command(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        command_line.main()
        return capsys.readouterr().out

    return command


ENSURE = ("scheduler", "ensure", "--url", URL, "--service-account", ACCOUNT)


def test_the_command_line_makes_looks_pauses_and_resumes(
    scheduler: CloudScheduler, command: Callable[..., str]
) -> None:
    for arguments, state in (
        (ENSURE, "enabled"),
        (("scheduler", "pause"), "paused"),
        (ENSURE, "paused"),
        (("scheduler", "status"), "paused"),
        (("scheduler", "resume"), "enabled"),
    ):
        printed = command(*arguments)
        assert printed.startswith(f"state  {state}\ncalls  {URL}/tick\nlast   none yet\nnext   20")
    scheduler.jobs[JOB] |= {"lastAttemptTime": "2026-11-26T01:02:03.004Z", "status": {"code": 13}}
    assert "last   2026-11-26 01:02:03 UTC, failed: google.rpc.Code 13\n" in command("scheduler", "status")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("scheduler", "status"), "There is no job"),
        (
            ("scheduler", "ensure", "--url", "http://tick.example.com", "--service-account", ACCOUNT),
            "--url is",
        ),
        (("scheduler", "ensure", "--url", "tick", "--service-account", ACCOUNT), "--url is 'tick'; expected"),
        (
            ("scheduler", "ensure", "--url", URL, "--service-account", "me"),
            "--service-account is 'me'; expected",
        ),
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong(
    scheduler: CloudScheduler, command: Callable[..., str], arguments: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(*arguments)
    assert str(caught.value).startswith(f"Insignia cannot do that: {complaint}")
    assert "\n" not in str(caught.value)
    assert scheduler.jobs == {}


def test_the_command_line_asks_for_the_job(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_JOB", "")
    with pytest.raises(SystemExit, match="SCHEDULER_JOB is missing; expected projects/PROJECT"):
        command("scheduler", "status")
    for arguments in (
        ["scheduler"],
        ["scheduler", "ensure"],
        ["scheduler", "ensure", "--url", URL],
        ["other"],
    ):
        with pytest.raises(SystemExit) as caught:
            command(*arguments)
        assert caught.value.code == 2


@pytest.fixture
def health_job(scheduler: CloudScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "tick_job", lambda name: job_at(scheduler, name))


@pytest.mark.usefixtures("health_job")
def test_health_tells_the_state_of_the_job(scheduler: CloudScheduler, job: TickJob) -> None:
    assert health.scheduler_state(JOB) == "missing"
    job.ensure(URL, ACCOUNT)
    assert health.scheduler_state(JOB) == "enabled"
    job.pause()
    assert health.scheduler_state(JOB) == "paused"


@pytest.mark.usefixtures("health_job")
def test_health_waits_for_the_scheduler_no_longer_than_it_says(
    scheduler: CloudScheduler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "SCHEDULER_SECONDS", 0.3)
    scheduler.answers.clear()
    began = time.monotonic()
    assert health.scheduler_state(JOB) == "unknown"
    assert time.monotonic() - began < 2
    assert "the state of the scheduler's job is not known: no answer in time" in caplog.text
    assert health.scheduler_state("projects/another/locations/europe-west1/jobs/j") == "unknown"


@pytest.mark.usefixtures("health_job")
def test_health_says_in_the_log_why_a_state_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    assert health.scheduler_state("projects/another/locations/europe-west1/jobs/j") == "unknown"
    assert "is not known: Cloud Scheduler refused (403): The principal lacks" in caplog.text


def test_health_looks_at_the_job_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    assert health.scheduler_state(JOB) == "unknown"


def test_all_that_is_set_is_in_the_mask_of_a_change(job: TickJob) -> None:
    fields = {field.name for field, _ in Job.pb(job._job(URL, ACCOUNT)).ListFields()}
    assert fields == {"name", *MANAGED}
