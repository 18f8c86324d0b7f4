"""`python main.py`: the local run, tasks as code, or one look at the job of Cloud Scheduler, or one change of it.

    python main.py [--demo]
    python main.py tasks plan | apply | export | import
    python main.py scheduler ensure --url URL --service-account EMAIL
    python main.py scheduler status | pause | resume | run

The job is that of SCHEDULER_JOB; Google is asked with the credentials that its libraries find (Application
Default Credentials).
"""

import argparse
import sys
from datetime import UTC, datetime

from domain.errors import InsigniaError
from functions import local
from functions.cloud_scheduler import JobState, TickJob
from functions.settings import EMAIL, SettingsError, https_url, load, matching, read_environment

ACTIONS = {
    "ensure": "make the job, or bring it to what it should be; a paused job stays paused",
    "status": "tell whether it calls tick, and how that goes",
    "pause": "stop all deliveries",
    "resume": "go on",
    "run": "call tick once, now",
}


def main() -> None:
    """Ends with exit code 1 and one line when something is wrong."""
    if sys.argv[1:2] == ["tasks"]:
        tasks(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python main.py", description="Run Insignia on this machine.")
    parser.add_argument("--demo", action="store_true", help="add a few tasks, and a receiver to watch them")
    commands = parser.add_subparsers(dest="command", metavar="tasks | scheduler")
    commands.add_parser("tasks", add_help=False, help="keep tasks in a file, at a running Insignia")
    scheduler = commands.add_parser("scheduler", help="manage the job of Cloud Scheduler that calls tick")
    actions = scheduler.add_subparsers(dest="action", required=True)
    parsers = {name: actions.add_parser(name, help=text, description=text) for name, text in ACTIONS.items()}
    parsers["ensure"].add_argument("--url", required=True, help="the URL of the function tick")
    parsers["ensure"].add_argument("--service-account", required=True, help="the account that calls it")
    options = parser.parse_args()
    if options.command is None:
        local.main(with_demo=options.demo)
        return
    try:
        print(described(change(options)))
    except InsigniaError as error:
        sys.exit(f"Insignia cannot do that: {error}")


def tasks(arguments: list[str]) -> None:
    try:
        from functions import tasks_command
    except ModuleNotFoundError as error:
        sys.exit(
            f"Insignia cannot do that: {error.name} is missing; run: pip install -r requirements-cli.txt"
        )
    tasks_command.main(arguments)


def change(options: argparse.Namespace) -> JobState:
    name = load(read_environment()).scheduler_job
    if name is None:
        raise SettingsError(
            "SCHEDULER_JOB is missing; expected projects/PROJECT/locations/LOCATION/jobs/JOB."
        )
    job = TickJob(name)
    match options.action:
        case "ensure":
            given = {"--url": options.url, "--service-account": options.service_account}
            url = https_url(given, "--url")
            account = matching(given, "--service-account", EMAIL, "an e-mail address")
            assert url is not None
            assert account is not None
            return job.ensure(url, account)
        case "pause":
            return job.pause()
        case "resume":
            return job.resume()
        case "run":
            return job.run()
        case _:
            return job.read()


def described(job: JobState) -> str:
    """For a person, in lines."""
    last = "none yet" if job.last_at is None else f"{shown(job.last_at)}, {job.last_error or 'ok'}"
    following = "none" if job.next_at is None else shown(job.next_at)
    return f"state  {job.state}\ncalls  {job.url}\nlast   {last}\nnext   {following}"


def shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
