"""The body of a notification: JSON for programs, or what Discord or Slack show to people (docs/notifications.md)."""

import json
import re
from collections.abc import Mapping
from typing import Any

from domain.notification import ChangeKind, Notification, content

DISCORD_HOSTS = {"discord.com", "discordapp.com", "ptb.discord.com", "canary.discord.com"}
SLACK_HOSTS = {"hooks.slack.com", "hooks.slack-gov.com"}

TITLES = {
    ChangeKind.FAILED: "{} fails",
    ChangeKind.RECOVERED: "{} works again",
    ChangeKind.DEACTIVATED: "{} was switched off",
    ChangeKind.MISSED: "{} has missed slots",
    ChangeKind.TICK_LATE: "Insignia was late",
    ChangeKind.DIGEST: "News of many tasks",
}
PAGES = {
    ChangeKind.FAILED: "/ui/runs/{run_id}",
    ChangeKind.RECOVERED: "/ui/runs/{run_id}",
    ChangeKind.DEACTIVATED: "/ui/tasks/{task_id}",
    ChangeKind.MISSED: "/ui/runs/{run_id}",
    ChangeKind.TICK_LATE: "/ui/system",
    ChangeKind.DIGEST: "/ui/",
}
"""Of the dashboard: where to go on reading."""

RED, GREEN, GREY = 0xC62828, 0x2E7D32, 0x757575
COLOURS = {ChangeKind.FAILED: RED, ChangeKind.DEACTIVATED: RED, ChangeKind.RECOVERED: GREEN}

NAME_LENGTH = 100
TEXT_LENGTH = 2_000
"""Escapes may double it: Discord takes titles of 256 characters and texts of 4,096."""

_OF_DISCORD = re.compile(r"[\\*_~`|>#\[\]()<@:-]")
_OF_SLACK = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def body_of(notification: Notification, host: str, dashboard_url: str | None) -> bytes:
    """What is sent to `host`; with a link to the dashboard where its URL is known, which ends without a slash."""
    link = dashboard_url and dashboard_url + PAGES[notification.kind].format(**notification.data)
    if host in DISCORD_HOSTS:
        body = for_discord(notification, link)
    elif host in SLACK_HOSTS:
        body = for_slack(notification, link)
    else:
        body = content(notification)
        if link:
            body["data"] = {**body["data"], "url": link}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def for_discord(notification: Notification, link: str | None) -> dict[str, Any]:
    """An embed that mentions nobody. https://discord.com/developers/docs/resources/webhook#execute-webhook"""
    embed = {
        "title": _OF_DISCORD.sub(r"\\\g<0>", title_of(notification.kind, notification.data)),
        "description": _OF_DISCORD.sub(r"\\\g<0>", text_of(notification)),
        "color": COLOURS.get(notification.kind, GREY),
        "timestamp": notification.happened_at.isoformat(),
    }
    return {"embeds": [embed | ({"url": link} if link else {})], "allowed_mentions": {"parse": []}}


def for_slack(notification: Notification, link: str | None) -> dict[str, Any]:
    """Plain text, in which nothing is a mention. https://api.slack.com/reference/surfaces/formatting"""
    text = f"{title_of(notification.kind, notification.data)}\n{text_of(notification)}"
    text = re.sub("[&<>]", lambda match: _OF_SLACK[match[0]], text)
    return {"text": f"{text}\n{link}" if link else text, "mrkdwn": False}


def title_of(kind: ChangeKind, data: Mapping[str, Any]) -> str:
    name = cut(" ".join(data.get("task_name", "").split()), NAME_LENGTH)
    return TITLES[kind].format(name)


def text_of(notification: Notification) -> str:
    """The message; of a digest also a line for each change that it names, as many as fit."""
    lines = [notification.data["message"]]
    for change in notification.data.get("changes", ()):
        lines.append(f"• {title_of(ChangeKind(change['type']), change['data'])}")
    return cut("\n".join(lines), TEXT_LENGTH)


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
