"""A page in a browser that must keep the rules: no error, nothing that its policy refuses, nothing from elsewhere."""

from types import TracebackType
from typing import Any, Self

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.acceptance.server import TOKEN

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
}
SECONDS = 10


class Watched:
    """Use as a context manager, whose end fails if a rule was broken."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self._options: dict[str, Any] = LOOKS["light"] | {"timezone_id": "America/New_York"} | options
        self._browser = browser
        self.broken: list[str] = []

    def __enter__(self) -> Self:
        self._context = self._browser.new_context(**self._options)
        self._context.set_default_timeout(SECONDS * 1000)
        self.page = self._context.new_page()
        self.page.on(
            "console", lambda message: self._note(message.type in ("error", "warning"), message.text)
        )
        self.page.on("pageerror", lambda error: self._note(True, str(error)))
        self.page.on("request", lambda request: self._note(not self._is_ours(request.url), request.url))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()
        if error is None:
            assert self.broken == []

    def _is_ours(self, url: str) -> bool:
        return url.startswith((f"{self.url}/", "data:"))

    def _note(self, is_broken: bool, what: str) -> None:
        if is_broken:
            self.broken.append(what)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def sign_in(self, token: str = TOKEN) -> None:
        self.open("/")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def look(self, name: str) -> None:
        """Show the page in one of LOOKS from now on."""
        self.page.emulate_media(color_scheme=LOOKS[name]["color_scheme"])
        self.page.set_viewport_size(LOOKS[name]["viewport"])

    def faults(self) -> list[str]:
        """What axe has to say about the page by WCAG 2.2 AA, and whether it is wider than the window."""
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        options = {
            "runOnly": tags,
            "resultTypes": ["violations"],
        }  # to collect what it passes takes as long again
        found = Axe().run(self.page, options=options).response["violations"]
        faults = [f"{fault['id']}: {node['html']}" for fault in found for node in fault["nodes"]]
        if self.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            faults.append("the page scrolls sideways")
        return faults
