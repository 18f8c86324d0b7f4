"""Cloud Scheduler on 127.0.0.1: the REST API of one project, for jobs with an HTTP target.

It refuses what the real one refuses, by the reference of the API: calls without a token of the right scope, a
location that is not there, a job that is not there or is there already, names, schedules, time zones, deadlines,
targets and masks that break its rules, and to pause or resume what is not in the state for it.
"""

import json
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import requests

from domain.errors import InvalidInput
from domain.schedule import parse_timezone, validate_schedule
from tests.google_accounts import GoogleAccounts
from tests.receiver import Answer, Received, Receiver

LOCATION = "projects/p/locations/europe-west1"
JOB = f"{LOCATION}/jobs/insignia-tick"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ENABLED, PAUSED = 1, 2
POST = 1
OUTPUT_ONLY = {"name", "state", "status", "userUpdateTime", "scheduleTime", "lastAttemptTime"}
SETTABLE = {"description", "schedule", "timeZone", "attemptDeadline", "retryConfig", "httpTarget"}


class Refusal(Exception):
    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.answer: Answer = (
            status,
            json.dumps({"error": {"code": status, "message": message, "status": name}}).encode(),
            {"Content-Type": "application/json"},
        )


def invalid(message: str) -> Refusal:
    return Refusal(400, "INVALID_ARGUMENT", message)


class CloudScheduler:
    """A context manager; `jobs` by name. While `answers` is not set, it hangs.

    A job that is run is called as Cloud Scheduler calls it, with an identity token that `google` signs.
    """

    def __init__(self, google: GoogleAccounts) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.answers = threading.Event()
        self.answers.set()
        self.calls: list[requests.Response] = []
        self.api = Receiver(self._answer)
        self._google = google
        self._google.access_tokens["an-access-token"] = SCOPE

    def __enter__(self) -> Self:
        self.api.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        self.api.__exit__()

    @property
    def endpoint(self) -> str:
        return self.api.url.removesuffix("/hook")

    def _answer(self, request: Received) -> Answer:
        self.answers.wait(30)
        try:
            job = self._serve(request)
        except Refusal as refusal:
            return refusal.answer
        return 200, json.dumps(job).encode(), {"Content-Type": "application/json"}

    def _serve(self, request: Received) -> dict[str, Any]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if self._google.access_tokens.get(token) != SCOPE:
            raise Refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        url = urlsplit(request.path)
        match = re.fullmatch(
            r"/v1/(projects/([^/]+)/locations/([^/]+))/jobs(?:/([^/:]+))?(?::(\w+))?", url.path
        )
        if match is None:
            raise Refusal(404, "NOT_FOUND", "Method not found.")
        location, project, _, job_id, verb = match.groups()
        if project != LOCATION.split("/")[1]:
            raise Refusal(403, "PERMISSION_DENIED", "The principal lacks IAM permission on the project.")
        if location != LOCATION:
            raise Refusal(404, "NOT_FOUND", "Location not found.")
        body = json.loads(request.body or b"{}")
        match request.method, job_id, verb:
            case "POST", None, None:
                return self._create(body)
            case "GET", str(), None:
                return self._existing(f"{location}/jobs/{job_id}")
            case "PATCH", str(), None:
                return self._update(f"{location}/jobs/{job_id}", body, parse_qs(url.query))
            case "POST", str(), "pause":
                return self._change(f"{location}/jobs/{job_id}", ENABLED, PAUSED)
            case "POST", str(), "resume":
                return self._change(f"{location}/jobs/{job_id}", PAUSED, ENABLED)
            case "POST", str(), "run":
                return self._run(f"{location}/jobs/{job_id}")
            case _:
                raise Refusal(404, "NOT_FOUND", "Method not found.")

    def _existing(self, name: str) -> dict[str, Any]:
        if name not in self.jobs:
            raise Refusal(404, "NOT_FOUND", "Job not found.")
        return self.jobs[name]

    def _create(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name = given.get("name", "")
        if not re.fullmatch(re.escape(LOCATION) + r"/jobs/[A-Za-z0-9_-]{1,500}", name):
            raise invalid("Job name must be formatted: projects/<PROJECT>/locations/<LOCATION>/jobs/<JOB>.")
        if name in self.jobs:
            raise Refusal(409, "ALREADY_EXISTS", f"Job {name} already exists.")
        job = {"name": name, "state": ENABLED} | {key: given[key] for key in SETTABLE & given.keys()}
        return self._keep(job)

    def _update(self, name: str, given: Mapping[str, Any], query: Mapping[str, list[str]]) -> dict[str, Any]:
        job = dict(self._existing(name))
        mask = {path for text in query.get("updateMask", []) for path in text.split(",")} or SETTABLE
        if unknown := mask - SETTABLE:
            raise invalid(f"Invalid update mask: {', '.join(sorted(unknown))}.")
        for field in mask:
            job.pop(field, None)
        return self._keep(job | {field: given[field] for field in mask & given.keys()})

    def _keep(self, job: dict[str, Any]) -> dict[str, Any]:
        check(job)
        token = job["httpTarget"].get("oidcToken")
        if token is not None:
            token.setdefault("audience", job["httpTarget"]["uri"])
        now = datetime.now(UTC)
        job |= {"userUpdateTime": text(now), "scheduleTime": text(now + timedelta(minutes=1))}
        self.jobs[job["name"]] = job
        return job

    def _change(self, name: str, state: int, to: int) -> dict[str, Any]:
        job = self._existing(name)
        if job["state"] != state:
            raise Refusal(
                400,
                "FAILED_PRECONDITION",
                f"Job state must be {'ENABLED' if state == ENABLED else 'PAUSED'}.",
            )
        job["state"] = to
        return job

    def _run(self, name: str) -> dict[str, Any]:
        job = self._existing(name)
        target, token = job["httpTarget"], job["httpTarget"]["oidcToken"]
        identity = self._google.identity_token(token["audience"], email=token["serviceAccountEmail"])
        headers = {"Authorization": f"Bearer {identity}", "User-Agent": "Google-Cloud-Scheduler"}
        answer = requests.post(target["uri"], headers=headers, timeout=30, allow_redirects=False)
        self.calls.append(answer)
        job |= {"lastAttemptTime": text(datetime.now(UTC)), "status": {} if answer.ok else {"code": 13}}
        return job


def check(job: Mapping[str, Any]) -> None:
    """Raise Refusal for a job that breaks the rules of the reference."""
    if len(job.get("description", "")) > 500:
        raise invalid("Job description must not be longer than 500 characters.")
    try:
        validate_schedule(job.get("schedule", ""))
        parse_timezone(job.get("timeZone") or "Etc/UTC")
    except InvalidInput:
        raise invalid("Schedule or time zone is invalid.") from None
    if not 0 <= job.get("retryConfig", {}).get("retryCount", 0) <= 5:
        raise invalid("retry_count must be from 0 to 5.")
    deadline = re.fullmatch(r"(\d+(?:\.\d+)?)s", job.get("attemptDeadline", "180s"))
    if deadline is None or not 15 <= float(deadline[1]) <= 1800:
        raise invalid("The attempt deadline must be in the interval [15 seconds, 30 minutes].")
    target = job.get("httpTarget")
    if not target:
        raise invalid("Job must have a target.")
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", target.get("uri", "")):
        raise invalid("HTTP URL is invalid.")
    if target.get("httpMethod", POST) not in range(1, 8):
        raise invalid("HTTP method is invalid.")
    token = target.get("oidcToken")
    if token is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+", token.get("serviceAccountEmail", "")):
        raise invalid("Service account email is invalid.")


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
