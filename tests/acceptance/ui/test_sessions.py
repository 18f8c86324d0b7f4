"""Signing in, staying signed in, and what other sites cannot do with it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import flask
import pytest
import requests
from werkzeug.test import EnvironBuilder

from functions.settings import Settings, load
from functions.ui import sessions
from functions.ui.pages import ASSETS
from tests.acceptance.server import TOKEN, Api, Server

OURS: Mapping[str, str] = {"Sec-Fetch-Site": "same-origin"}
OTHER = "another-token-that-is-long-enough"
READER = "a-token-for-those-who-only-look"
BOTH = load({"API_TOKEN": f"{TOKEN},{OTHER}", "API_READ_TOKEN": READER})


@pytest.fixture
def somebody(server: Server, empty: None) -> Api:
    return Api(server.url, token=None)


def signed_in(somebody: Api, token: str = TOKEN) -> dict[str, str]:
    answer = post(somebody, "/ui/sign-in", token=token)
    assert answer.status_code == 303
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def post(api: Api, path: str, headers: Mapping[str, str] = OURS, **fields: str) -> requests.Response:
    return api("POST", path, data=fields or {"back": "/ui/"}, headers={**headers})


def request_with(cookie: str) -> flask.Request:
    return flask.Request(EnvironBuilder(headers=[("Cookie", f"{sessions.COOKIE}={cookie}")]).get_environ())


def session(settings: Settings, cookie: str | None) -> sessions.Session | None:
    assert cookie is not None
    return sessions.session_of(settings, request_with(cookie))


def test_the_root_leads_to_the_dashboard_and_that_to_the_way_in(somebody: Api) -> None:
    assert somebody("GET", "/").headers["Location"] == "/ui/"
    answer = somebody("GET", "/ui/?notice=reactivated")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/ui/sign-in?next=%2Fui%2F%3Fnotice%3Dreactivated"


def test_the_token_opens_a_session_that_scripts_and_other_sites_cannot_have(somebody: Api) -> None:
    answer = post(somebody, "/ui/sign-in?next=/ui/%3Fx=1", token=f" {TOKEN} ")
    assert answer.headers["Location"] == "/ui/?x=1"
    name, *flags = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-insignia=")
    assert TOKEN not in name
    assert {*flags} == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=43200", flags[0]}
    assert somebody("GET", "/ui/", headers=signed_in(somebody)).status_code == 200


@pytest.mark.parametrize("wanted", ["https://example.com/", "//example.com", "/docs", "/ui", "\\ui/"])
def test_signing_in_leads_to_no_other_place(somebody: Api, wanted: str) -> None:
    answer = somebody("POST", "/ui/sign-in", params={"next": wanted}, data={"token": TOKEN}, headers=OURS)
    assert answer.headers["Location"] == "/ui/"


def test_a_wrong_token_is_told_and_not_repeated(somebody: Api) -> None:
    answer = post(somebody, "/ui/sign-in", token=OTHER)
    assert answer.status_code == 403
    assert "not a token of this Insignia" in answer.text
    assert OTHER not in answer.text
    assert "Set-Cookie" not in answer.headers


def test_signing_out_takes_the_cookie_away(somebody: Api) -> None:
    answer = post(somebody, "/ui/sign-out", {**OURS, **signed_in(somebody)})
    assert answer.headers["Location"] == "/ui/sign-in?notice=signed-out"
    assert "__Host-insignia=;" in answer.headers["Set-Cookie"]
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


def test_a_session_ends_when_its_token_is_rotated_out() -> None:
    cookie = sessions.sign_in(BOTH, OTHER)
    assert session(BOTH, cookie) == sessions.Session(may_change=True)
    assert session(replace(BOTH, api_tokens=(TOKEN,)), cookie) is None


def test_the_token_that_may_only_read_makes_a_session_that_may_only_read() -> None:
    assert session(BOTH, sessions.sign_in(BOTH, READER)) == sessions.Session(may_change=False)


def test_a_session_ends_after_12_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = sessions.sign_in(BOTH, TOKEN)
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: __import__("time").monotonic() + 4e9)
    assert session(BOTH, cookie) is None


@pytest.mark.parametrize("cookie", ["", "session", "session.x.y", TOKEN, "é"])
def test_a_cookie_that_we_did_not_sign_is_none(cookie: str) -> None:
    assert session(BOTH, cookie) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "null"},
        {"Origin": "https://example.com"},
    ],
    ids=str,
)
def test_a_page_of_another_site_changes_nothing(somebody: Api, api: Api, headers: Mapping[str, str]) -> None:
    task = api.create(status="inactive")
    path = f"/ui/tasks/{task['id']}/activate"
    refused = post(somebody, path, {**headers, **signed_in(somebody)})
    assert refused.status_code == 403
    assert "does not come from a page of this Insignia" in refused.text
    assert api.get(f"/tasks/{task['id']}")["status"] == "inactive"
    assert post(somebody, "/ui/sign-in", headers, token=TOKEN).status_code == 403


def test_a_browser_without_fetch_metadata_is_known_by_its_origin(somebody: Api, api: Api) -> None:
    task = api.create(status="inactive")
    headers = {"Origin": somebody.url, **signed_in(somebody)}
    assert post(somebody, f"/ui/tasks/{task['id']}/activate", headers).status_code == 303
    assert api.get(f"/tasks/{task['id']}")["status"] == "active"


def test_nothing_is_changed_without_a_session_nor_by_a_bearer_token(somebody: Api, api: Api) -> None:
    task = api.create(status="inactive")
    path = f"/ui/tasks/{task['id']}/activate"
    assert post(somebody, path).headers["Location"] == "/ui/sign-in?next=%2Fui%2F"
    assert post(api, path).headers["Location"] == "/ui/sign-in?next=%2Fui%2F"
    assert api.get(f"/tasks/{task['id']}")["status"] == "inactive"


def test_the_cookie_does_not_open_the_api(somebody: Api) -> None:
    assert somebody("GET", "/tasks/", headers=signed_in(somebody)).status_code == 401


def test_errors_under_ui_are_pages_and_elsewhere_documents(somebody: Api) -> None:
    for path in ("/ui/nothing", "/ui/tasks/no-uuid/activate"):
        answer = somebody("GET", path)
        assert answer.status_code in (404, 405)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert somebody("GET", "/uix").headers["Content-Type"] == "application/problem+json"


def test_a_page_allows_nothing_from_elsewhere_and_nothing_inline(somebody: Api) -> None:
    answer = somebody("GET", "/ui/sign-in")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<style|style=|<script(?![^>]* src=)|\son\w+=", answer.text)


def test_a_page_and_its_files_are_small(somebody: Api) -> None:
    page = somebody("GET", "/ui/", headers=signed_in(somebody))
    files = [somebody("GET", f"/ui/assets/{name}") for name in ASSETS]
    assert all(answer.headers["Content-Encoding"] == "gzip" for answer in (page, *files))
    assert sum(int(answer.headers["Content-Length"]) for answer in (page, *files)) < 50_000


def test_who_may_only_read_sees_everything_but_secrets_and_changes_nothing(
    server_database: str, tmp_path: Path, api: Api
) -> None:
    task = api.create(
        name="Seen", webhook_url="http://127.0.0.1:9/secret-path", headers={"X-Key": "secret-value"}
    )
    log = api.ok("POST", f"/tasks/{task['id']}/run", status=202)
    server = Server(tmp_path, {"DATABASE_URL": server_database, "API_READ_TOKEN": READER})
    try:
        server.wait_until_ready()
        reader = Api(server.url, token=None)
        headers = {**OURS, **signed_in(reader, READER)}
        one = f"/ui/tasks/{task['id']}"
        for path in (
            "/ui/",
            "/ui/tasks",
            one,
            f"/ui/runs/{log['id']}",
            "/ui/logs",
            "/ui/logs.csv",
            "/ui/system",
        ):
            page = reader("GET", path, headers=headers)
            assert page.status_code == 200
            assert "Seen" in page.text or path in ("/ui/", "/ui/system")
            assert "secret-" not in page.text
            forms = set(re.findall(r'method="post" action="([^"]*)"', page.text))
            assert forms == (set() if path.endswith(".csv") else {"/ui/sign-out"})
        for path in ("/ui/tasks/new", f"{one}/edit", f"{one}/delete"):
            assert reader("GET", path, headers=headers).status_code == 403
        for path in (
            *(f"{one}/{what}" for what in ("run", "pause", "activate", "duplicate", "edit", "delete")),
            "/ui/tasks/bulk",
            f"/ui/runs/{log['id']}/retry",
        ):
            refused = post(reader, path, headers, action="delete", confirmed="yes", task_id=task["id"])
            assert refused.status_code == 403
            assert "may only read" in refused.text
    finally:
        assert server.stop() == 0
    assert api.get("/tasks/")["tasks"] == [task]
