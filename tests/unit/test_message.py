"""What is told of a change: JSON for programs, and what Discord and Slack show; their hosts are values only."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.message import PAGES, TITLES, body_of
from domain.notification import ChangeKind, Notification, digest_of
from functions.ui import overview, run, system, task

AT = datetime(2026, 11, 30, 13, 45, 2, tzinfo=UTC)
DATA = {
    "task_id": "5a0c2f6e-3d1b-4c8e-9f57-0d6a1b2c3d4e",
    "task_name": "Nightly",
    "run_id": "c1f2e3d4-0a1b-4c2d-8e3f-4a5b6c7d8e9f",
    "message": "Failed after 1 attempt: the webhook answered HTTP 500.",
}
HOSTILE = (
    "@everyone <@1> <!channel> **bold** _it_ ~~no~~ `code` ||spoiler|| [x](https://evil.example.com) # > \\ &"
)
HOME = "https://insignia.example.com"


def notification(kind: ChangeKind = ChangeKind.FAILED, **data: Any) -> Notification:
    return Notification(
        id=UUID(int=1),
        lease_id=UUID(int=2),
        url="",
        kind=kind,
        happened_at=AT,
        claimed_at=AT,
        data=DATA | data,
        number=1,
    )


def digest(number: int, **data: Any) -> Notification:
    change = digest_of([notification(**data)] * number, {"task.failed": number}, AT, UUID(int=3))
    return replace(notification(), kind=change.kind, data=change.data)


def sent(notification: Notification, host: str, dashboard_url: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(body_of(notification, host, dashboard_url))
    return body


def unescaped(text: str) -> str:
    return re.sub(r"\\([^0-9A-Za-z\s])", r"\1", text)


def test_programs_get_type_timestamp_and_data() -> None:
    body = body_of(notification(), "hooks.example.com", None)
    assert body.startswith(b'{"type":"task.failed","timestamp":"2026-11-30T13:45:02Z","data":{"task_id":')
    assert json.loads(body)["data"] == DATA


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (ChangeKind.FAILED, f"{HOME}/ui/runs/{DATA['run_id']}"),
        (ChangeKind.RECOVERED, f"{HOME}/ui/runs/{DATA['run_id']}"),
        (ChangeKind.MISSED, f"{HOME}/ui/runs/{DATA['run_id']}"),
        (ChangeKind.DEACTIVATED, f"{HOME}/ui/tasks/{DATA['task_id']}"),
        (ChangeKind.TICK_LATE, f"{HOME}/ui/system"),
        (ChangeKind.DIGEST, f"{HOME}/ui/"),
    ],
)
def test_each_kind_leads_to_its_page_of_the_dashboard(kind: ChangeKind, link: str) -> None:
    assert sent(notification(kind), "hooks.example.com", HOME)["data"]["url"] == link
    assert sent(notification(kind), "discord.com", HOME)["embeds"][0]["url"] == link
    assert sent(notification(kind), "hooks.slack.com", HOME)["text"].endswith(f"\n{link}")


def test_every_kind_has_a_title_and_a_page() -> None:
    assert TITLES.keys() == PAGES.keys() == set(ChangeKind)


@pytest.mark.parametrize("host", ["discord.com", "discordapp.com", "canary.discord.com"])
def test_discord_gets_an_embed_that_mentions_nobody(host: str) -> None:
    assert sent(notification(task_name="Nightly"), host) == {
        "embeds": [
            {
                "title": "Nightly fails",
                "description": "Failed after 1 attempt\\: the webhook answered HTTP 500.",
                "color": 0xC62828,
                "timestamp": "2026-11-30T13:45:02+00:00",
            }
        ],
        "allowed_mentions": {"parse": []},
    }


def test_slack_gets_a_text_without_markup() -> None:
    assert sent(notification(), "hooks.slack.com") == {
        "text": "Nightly fails\nFailed after 1 attempt: the webhook answered HTTP 500.",
        "mrkdwn": False,
    }


def test_hosts_that_only_look_like_them_get_json() -> None:
    for host in ("discord.com.example.com", "notdiscord.com", "slack.com", "example.com"):
        assert "type" in sent(notification(), host)


def test_markup_and_mentions_in_names_are_text_for_discord() -> None:
    (embed,) = sent(notification(task_name=HOSTILE, message=HOSTILE), "discord.com")["embeds"]
    assert unescaped(embed["description"]) == HOSTILE
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_~`|>#\[\]()<@]", embed["description"] + embed["title"])


def test_markup_and_mentions_in_names_are_text_for_slack() -> None:
    body = sent(notification(task_name=HOSTILE, message=HOSTILE), "hooks.slack.com")
    assert body["mrkdwn"] is False
    assert "<" not in body["text"]
    assert ">" not in body["text"]
    assert body["text"].endswith("&gt; \\ &amp;")


def test_a_name_of_many_lines_is_one_line_of_a_title() -> None:
    assert sent(notification(task_name="a\n\n@b"), "hooks.slack.com")["text"].startswith("a @b fails\n")


@pytest.mark.parametrize("character", ["*", "x", "🟥"])
def test_what_is_sent_keeps_within_the_limits_of_discord(character: str) -> None:
    for told in (
        notification(ChangeKind.DEACTIVATED, task_name=character * 200, message=character * 10_000),
        digest(1_000, task_name=character * 200),
    ):
        (embed,) = sent(told, "discord.com", HOME)["embeds"]
        title, text = (len(embed[name].encode("utf-16-le")) // 2 for name in ("title", "description"))
        assert title <= 256
        assert text <= 4_096
        assert title + text <= 6_000


def test_a_digest_is_a_line_for_each_change_that_it_names() -> None:
    text = sent(digest(30), "hooks.slack.com")["text"]
    assert text.splitlines()[:3] == ["News of many tasks", "30 changes: 30 failed.", "• Nightly fails"]
    assert len(text.splitlines()) == 2 + 20


def test_the_pages_that_it_leads_to_are_there() -> None:
    declared = {route.path for module in (overview, run, system, task) for route in module.pages}
    assert set(PAGES.values()) <= declared
