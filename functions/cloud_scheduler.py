"""The job of Cloud Scheduler that calls `tick` every minute: made, looked at, paused, resumed, run.

Google's client costs 270 ms to import, so that is done on first use. Every call is made once, with a time limit:
whoever asked can ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from domain.errors import InsigniaError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.scheduler_v1.types import Job

SCHEDULE, TIME_ZONE = "* * * * *", "Etc/UTC"
ATTEMPT_SECONDS = 120
"""As the time-out of the function, so that neither of the two gives up alone."""

CALL_SECONDS = 10.0
State = Literal["enabled", "paused", "disabled", "update_failed", "missing", "unknown"]
MANAGED = ("description", "schedule", "time_zone", "attempt_deadline", "retry_config", "http_target")
"""What `ensure` sets; a paused job stays paused."""


class SchedulerError(InsigniaError):
    """Cloud Scheduler refused or did not answer."""


class NoSuchJob(SchedulerError):
    """SCHEDULER_JOB names a job that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What Cloud Scheduler says about the job; `last_error` is that of the last call, None if it went well."""

    state: State
    url: str
    next_at: datetime | None
    last_at: datetime | None
    last_error: str | None


class TickJob:
    """The job `name` (projects/P/locations/L/jobs/J); raises SchedulerError, also where there are no credentials.

    The credentials are those of the process, and the API is Google's, unless a test brings its own.
    """

    def __init__(
        self,
        name: str,
        *,
        credentials: Credentials | None = None,
        api_endpoint: str | None = None,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        from google.cloud.scheduler_v1 import CloudSchedulerClient

        self._name = name
        self._once: dict[str, Any] = {"retry": None, "timeout": call_seconds}
        with one_error(name):
            self._client = CloudSchedulerClient(
                transport="rest", credentials=credentials, client_options={"api_endpoint": api_endpoint}
            )

    def ensure(self, url: str, service_account: str) -> JobState:
        """Bring the job to what it should be: made if it is not there, else changed, and not resumed.

        It calls `url`/tick as `service_account`, with an identity token for `url`.
        """
        job = self._job(url, service_account)
        try:
            return self._ask(
                partial(self._client.update_job, job=job, update_mask={"paths": [*MANAGED]}, **self._once)
            )
        except NoSuchJob:
            parent = self._name.rpartition("/jobs/")[0]
            return self._ask(partial(self._client.create_job, parent=parent, job=job, **self._once))

    def read(self) -> JobState:
        return self._ask(partial(self._client.get_job, name=self._name, **self._once))

    def pause(self) -> JobState:
        """Stop calling; nothing changes if it is paused."""
        return self._bring_to("paused", self._client.pause_job)

    def resume(self) -> JobState:
        """Call again; nothing changes if it is not paused."""
        return self._bring_to("enabled", self._client.resume_job)

    def run(self) -> JobState:
        """Call once, now; does not wait for the answer of `tick`."""
        return self._ask(partial(self._client.run_job, name=self._name, **self._once))

    def _bring_to(self, state: str, change: Callable[..., Job]) -> JobState:
        try:
            return self._ask(partial(change, name=self._name, **self._once))
        except SchedulerError:
            if (job := self.read()).state != state:
                raise
            return job

    def _ask(self, call: Callable[[], Job]) -> JobState:
        with one_error(self._name):
            return state_of(call())

    def _job(self, url: str, service_account: str) -> Job:
        from google.cloud.scheduler_v1.types import HttpMethod, HttpTarget, Job, OidcToken, RetryConfig

        return Job(
            name=self._name,
            description="Insignia: calls tick every minute",
            schedule=SCHEDULE,
            time_zone=TIME_ZONE,
            attempt_deadline=timedelta(seconds=ATTEMPT_SECONDS),
            retry_config=RetryConfig(retry_count=0),  # the next minute is the retry
            http_target=HttpTarget(
                uri=f"{url}/tick",
                http_method=HttpMethod.POST,
                oidc_token=OidcToken(service_account_email=service_account, audience=url),
            ),
        )


@contextmanager
def one_error(name: str) -> Iterator[None]:
    """Raise SchedulerError for whatever Google's client, its authentication and the network raise."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError, NotFound
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except NotFound as error:
        raise NoSuchJob(
            f"There is no job {name}; make it with `python main.py scheduler ensure`, or correct SCHEDULER_JOB."
        ) from error
    except GoogleAPICallError as error:
        reason = error.message.partition(": ")[2] or error.message  # before it stands the URL
        raise SchedulerError(f"Cloud Scheduler refused ({error.code}): {reason}") from error
    except GoogleAuthError as error:
        raise SchedulerError(f"Google gives no access to Cloud Scheduler: {error}") from error
    except requests.RequestException as error:
        raise SchedulerError(f"Cloud Scheduler does not answer ({type(error).__name__}).") from error


def state_of(job: Job) -> JobState:
    states: dict[str, State] = {state: state for state in get_args(State)}
    failed = f"failed: {job.status.message or f'google.rpc.Code {job.status.code}'}"
    return JobState(
        state=states.get(getattr(job.state, "name", "").lower(), "unknown"),
        url=job.http_target.uri,
        next_at=instant(job, "schedule_time"),
        last_at=instant(job, "last_attempt_time"),
        last_error=failed if job.status.code else None,
    )


def instant(job: Job, field: str) -> datetime | None:
    return getattr(job, field) if field in job else None
