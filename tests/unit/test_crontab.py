from typing import Any

import pytest

from domain.crontab import CrontabEntry, NotTaken, parse_crontab
from functions.crontab_import import tasks_of_crontab

URL = "https://hooks.example.com/run"


def imported(
    text: str, *, timezone: str = "UTC", has_users: bool = False
) -> tuple[list[Any], list[NotTaken]]:
    return tasks_of_crontab(text, timezone=timezone, has_users=has_users, progress=lambda _: None)


def test_lines_with_their_schedules_comments_and_time_zones() -> None:
    text = """
# Nightly
CRON_TZ="Europe/Berlin"
TZ=Asia/Tokyo
0  2 * * *\tfirst --now
# About it

@daily second
CRON_TZ=
# Third
1-59/2 * * * MON third \\% more"""
    assert list(parse_crontab(text, has_users=False)) == [
        CrontabEntry(
            line=5, schedule="0 2 * * *", command="first --now", timezone="Europe/Berlin", comment=None
        ),
        CrontabEntry(line=8, schedule="@daily", command="second", timezone="Europe/Berlin", comment=None),
        CrontabEntry(
            line=11,
            schedule="1-59/2 * * * MON",
            command="third % more",
            timezone="Asia/Tokyo",
            comment="Third",
        ),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("* * * * *", "not a schedule with a command"),
        ("nonsense", "not a schedule with a command"),
        ("* * * * * mail -s x%body", "begins the input"),
        (f"* * * * * wget {URL}", "begin with 'curl'"),
        (f"* * * * * curl {URL} && touch done", "'&&'"),
        (f"@reboot curl {URL}", "@reboot"),
        (f"61 * * * * curl {URL}", "minute 61"),
        (f"* * * * * curl -d a=b {URL}", "not JSON"),
        ("* * * * * curl ftp://example.com/", "http:// or https://"),
        (f"CRON_TZ=Nowhere/Land\n* * * * * curl {URL}", "Nowhere/Land"),
        (f"* * * * * curl -H 'Host: x' {URL}", "Host"),
    ],
)
def test_what_is_left_out_is_said(line: str, reason: str) -> None:
    tasks, (remark,) = imported(line)
    assert tasks == []
    assert remark.line == line.count("\n") + 1
    assert reason in remark.reason
    assert not remark.is_harmless


def test_a_call_becomes_a_task() -> None:
    command = f"curl -fsS -m 5 -X PUT -H 'X-Key: k' -d '{{\"a\": [1]}}' {URL} >/dev/null 2>&1"
    tasks, remarks = imported(f"PATH=/bin\n# Report\n*/5 * * * * {command}", timezone="Europe/Paris")
    assert tasks == [
        {
            "name": "Report",
            "schedule": "*/5 * * * *",
            "timezone": "Europe/Paris",
            "webhook_url": URL,
            "method": "PUT",
            "headers": {"X-Key": "k"},
            "payload": {"a": [1]},
        }
    ]
    assert [(remark.line, remark.is_harmless) for remark in remarks] == [(1, True), (3, True)]
    assert "timeout_seconds" in remarks[1].reason


def test_names_are_told_apart() -> None:
    comment = "#" + "x" * 300
    lines = [comment, f"@daily curl {URL}", comment, f"@daily curl {URL}", f"@daily curl {URL}"]
    names = [task["name"] for task in imported("\n".join(lines))[0]]
    assert names == ["x" * 200, "x" * 191 + " (line 4)", "hooks.example.com (line 5)"]


def test_the_user_of_a_system_crontab_is_no_part_of_the_command() -> None:
    tasks, remarks = imported(f"@daily root curl {URL}\n@daily root\n", has_users=True)
    assert [task["webhook_url"] for task in tasks] == [URL]
    assert [remark.line for remark in remarks] == [2]
