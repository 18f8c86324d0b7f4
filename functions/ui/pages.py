"""Pages and their declaration: a path and a method to a function that gets a View, and answers with HTML.

    pages = Pages()

    @pages.page("GET", "/ui/tasks/{task_id}")
    def task(view: View, task_id: UUID) -> flask.Response:
        return view.render("task.html", task=functions.tasks.get_task(task_id))

The signature declares what a route of the API declares (functions/routing.py): names of the path, `query` and
`form`. Without a session a page leads to the one that signs in; what changes something needs a session that may,
and a request from a page of ours. Errors are raised as in the API, and told by `refuse`.
"""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode

import flask
import jinja2

from domain.errors import InsigniaError
from functions import bootstrap
from functions.auth import READING
from functions.browser_files import compressed, guarded, version
from functions.problems import Forbidden, problem
from functions.routing import Routes
from functions.ui import text
from functions.ui.sessions import Session, require_own_page, session_of

HOME = "/ui/"
SIGN_IN = "/ui/sign-in"
ASSETS = {
    "pico.min.css": "pico/pico.min.css",
    "htmx.min.js": "htmx.org/htmx.min.js",
    "ui.css": "ui.css",
    "ui.js": "ui.js",
}
TASKS = "/ui/tasks"
RUNS = "/ui/runs"
LOGS = "/ui/logs"
SYSTEM = "/ui/system"
NAVIGATION = {"Overview": HOME, "Tasks": TASKS, "Logs": LOGS, "System": SYSTEM}
"""Pages that every page links to."""

NOTICES = {
    "reactivated": "The task is active again. Its failures are forgotten, and its next run is planned from now.",
    "saved": "The task is saved.",
    "duplicated": "This is the copy. It is inactive until you activate it.",
    "deleted": "The task and its logs are deleted.",
    "paused": "The task is paused: it runs no more until it is activated.",
    "ran-success": "The run succeeded.",
    "ran-failed": "The run failed. Its log says why.",
    "ran-retrying": "The first attempt failed; the next tick tries again.",
    "ran-running": "The run is left to the next tick.",
    "bulk-activated": "The chosen tasks are active.",
    "bulk-paused": "The chosen tasks are paused.",
    "bulk-deleted": "The chosen tasks and their logs are deleted.",
    "signed-out": "You are signed out.",
}
"""What a page says about what was just done, by the `notice` of its URL."""


@dataclass(frozen=True, slots=True)
class View:
    """One look at a page: the request, and whose it is (None where nobody has signed in)."""

    request: flask.Request
    session: Session | None

    @property
    def may_change(self) -> bool:
        return self.session is not None and self.session.may_change

    def require_change(self) -> None:
        """Raise Forbidden for a session that may only read."""
        if not self.may_change:
            raise Forbidden("You signed in with a token that may only read; sign in with API_TOKEN.")

    def render(self, template: str, *, status: int = 200, **values: Any) -> flask.Response:
        """The page of a template, which sees `view` and `values`."""
        html = environment().get_template(template).render(view=self, **values)
        response = flask.Response(html, status, content_type="text/html; charset=utf-8")
        return guarded(self.request, compressed(self.request, response))

    def go_to(self, path: str, notice: str | None = None) -> flask.Response:
        """After something was done: to a page that says so."""
        query = urlencode({"notice": notice}) if notice else ""
        joint = "&" if "?" in path else "?"
        return redirect(self.request, f"{path}{joint}{query}" if query else path)

    @property
    def here(self) -> str:
        """The URL of the page, without what it says about what was just done."""
        query = urlencode([item for item in self.request.args.items(multi=True) if item[0] != "notice"])
        return self.request.path + (f"?{query}" if query else "")

    @property
    def notice(self) -> str | None:
        return NOTICES.get(self.request.args.get("notice", ""))


class Pages(Routes):
    """The pages of one file."""

    def __init__(self) -> None:
        super().__init__("Pages")

    def page(
        self, method: str, path: str, *, is_open: bool = False
    ) -> Callable[[Callable[..., flask.Response]], Callable[..., flask.Response]]:
        """Declare the decorated function as the page at `path`; an open one needs no session."""

        def declare(handler: Callable[..., flask.Response]) -> Callable[..., flask.Response]:
            def served(request: flask.Request, **arguments: Any) -> flask.Response:
                require_own_page(request)
                view = View(request, session_of(bootstrap.settings(), request))
                if not is_open and view.session is None:
                    return to_sign_in(request)
                if not is_open and method not in READING:
                    view.require_change()
                return handler(view, **arguments)

            hints = typing.get_type_hints(handler)
            del hints["view"]
            served.__annotations__ = hints | {"request": flask.Request}
            self.add(method, path, is_public=True)(served)
            return handler

        return declare


def to_sign_in(request: flask.Request) -> flask.Response:
    """To the page that signs in, and from there to what was asked for, if that only reads."""
    wanted = request.full_path.rstrip("?") if request.method in READING else HOME
    return redirect(request, f"{SIGN_IN}?{urlencode({'next': wanted})}")


def redirect(request: flask.Request, url: str) -> flask.Response:
    """With status 303; htmx is told to load the whole page."""
    if "HX-Request" in request.headers:
        return flask.Response(status=200, headers={"HX-Redirect": url})
    return flask.Response(status=303, headers={"Location": url})


def refuse(request: flask.Request, error: InsigniaError) -> flask.Response:
    """The answer that tells an error: to people under /ui/, as a document elsewhere."""
    document = problem(error)
    if request.path != "/ui" and not request.path.startswith(HOME):
        return document
    view = View(request, session_of(bootstrap.settings(), request))
    response = view.render("problem.html", status=document.status_code, problem=document.get_json())
    if retry_after := document.headers.get("Retry-After"):
        response.headers["Retry-After"] = retry_after
    return response


@cache
def environment() -> jinja2.Environment:
    """The templates, compiled on first use."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("functions.ui"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.globals |= {"asset": asset_url, "navigation": NAVIGATION}
    found.filters |= text.FILTERS
    return found


def asset_url(name: str) -> str:
    return f"/ui/assets/{name}?v={version(ASSETS[name])}"
