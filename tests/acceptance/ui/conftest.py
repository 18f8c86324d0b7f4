"""A browser that is Debian's chromium, one for all tests; each test has a fresh profile in it."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.acceptance.server import Api, Server
from tests.acceptance.ui.test_sessions import OURS, signed_in
from tests.acceptance.ui.watched import Watched


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed; `apt-get install chromium` brings it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, server: Server, api: Api) -> Iterator[Watched]:
    """Somebody who has not signed in, at an Insignia without a task."""
    with Watched(browser, server.url) as watched:
        yield watched


@pytest.fixture
def user(visitor: Watched) -> Watched:
    """Somebody who has signed in with the token."""
    visitor.sign_in()
    return visitor


@pytest.fixture
def browser_of(server: Server, api: Api) -> tuple[Api, dict[str, str]]:
    """Somebody without a browser but with its cookie, and the headers to send."""
    somebody = Api(server.url, token=None)
    return somebody, {**OURS, **signed_in(somebody)}
