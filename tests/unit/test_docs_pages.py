import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import flask
import pytest
from werkzeug.test import Client, TestResponse

from functions import docs
from functions.browser_files import ASSETS, version
from functions.docs import REDOC_ASSETS, SWAGGER_UI_ASSETS
from functions.routing import http_function

VENDORED = json.loads((ASSETS / "VENDORED.json").read_text())

function = http_function(docs.routes([]))


def application(environ: dict[str, Any], start_response: Any) -> Any:
    return function(flask.Request(environ))(environ, start_response)


def get(path: str, **arguments: Any) -> TestResponse:
    return Client(application).get(path, **arguments)


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.inline |= tag == "style" or (tag == "script" and "src" not in values) or "style" in values
        self.urls += [value for name in ("src", "href", "data-openapi") if (value := values.get(name))]


def policy_of(response: TestResponse) -> dict[str, str]:
    directives = response.headers["Content-Security-Policy"].split("; ")
    return {name: values for name, _, values in (directive.partition(" ") for directive in directives)}


@pytest.mark.parametrize("entry", VENDORED, ids=lambda entry: str(entry["file"]))
def test_a_vendored_file_is_what_was_vendored(entry: dict[str, str]) -> None:
    assert hashlib.sha256((ASSETS / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", entry["version"])


def test_nothing_is_vendored_that_is_not_listed_and_each_package_has_its_licence() -> None:
    folders = {entry["file"].split("/")[0] for entry in VENDORED}
    found = {
        file.relative_to(ASSETS).as_posix() for folder in folders for file in (ASSETS / folder).iterdir()
    }
    assert found == {entry["file"] for entry in VENDORED}
    assert {file.split("/")[0] for file in found if "/LICENSE" in file} == folders


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/redoc", "/redoc/"])
def test_a_page_loads_only_files_that_we_serve(path: str) -> None:
    page = get(path)
    links = Links(page.text)
    assert page.content_type == "text/html; charset=utf-8"
    assert not links.inline
    for url in links.urls:
        if url != "data:,":
            assert not urlsplit(url).netloc
            assert get(urljoin(path, url)).status_code == 200, url


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_allows_nothing_from_elsewhere(path: str) -> None:
    policy = policy_of(get(path))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["img-src"] == "'self' data:"
    assert get(path).headers["Referrer-Policy"] == "no-referrer"


def test_only_redoc_may_write_its_own_styles() -> None:
    assert policy_of(get("/docs"))["style-src"] == "'self'"
    assert "worker-src" not in policy_of(get("/docs"))
    assert policy_of(get("/redoc"))["style-src"] == "'self' 'unsafe-inline'"
    assert policy_of(get("/redoc"))["worker-src"] == "blob:"


def test_no_program_fetches_fonts_pictures_or_validations_from_elsewhere() -> None:
    programs = {file: (ASSETS / file).read_text() for file in (SWAGGER_UI_ASSETS | REDOC_ASSETS).values()}
    for text in programs.values():
        assert "fonts.googleapis.com" not in text
        assert "cdn.redoc.ly" not in text
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", text)
    assert "validatorUrl: null" in programs["swagger-ui.init.js"]


@pytest.mark.parametrize(("folder", "names"), [("docs", SWAGGER_UI_ASSETS), ("redoc", REDOC_ASSETS)])
def test_a_file_is_kept_by_its_version_and_checked_by_its_etag(folder: str, names: dict[str, str]) -> None:
    for name, file in names.items():
        current = get(f"/{folder}/{name}?v={version(file)}")
        assert current.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert current.data == (ASSETS / file).read_bytes()
        assert current.content_type.startswith(("text/css", "text/javascript"))
        assert get(f"/{folder}/{name}?v=older").headers["Cache-Control"] == "no-cache"
        again = get(f"/{folder}/{name}", headers={"If-None-Match": current.headers["ETag"]})
        assert again.status_code == 304
        assert again.data == b""


@pytest.mark.parametrize(
    "path",
    ["/docs/nothing.js", "/docs/redoc.init.js", "/docs/..%2Fvendor.py", "/docs/VENDORED.json", "/redoc/x"],
)
def test_no_other_file_is_served(path: str) -> None:
    assert get(path).status_code == 404


def test_https_is_remembered_only_where_the_page_came_by_https() -> None:
    assert "Strict-Transport-Security" not in get("/docs").headers
    assert "Strict-Transport-Security" in get("/docs", headers={"X-Forwarded-Proto": "https"}).headers
