"""/ leads to /ui/; signing in and out; the files that the pages load."""

import flask

from functions import bootstrap
from functions.browser_files import asset
from functions.request_body import Form
from functions.ui.pages import ASSETS, HOME, SIGN_IN, Pages, View
from functions.ui.sessions import set_cookie, sign_in

pages = Pages()


@pages.page("GET", "/", is_open=True)
def root(view: View) -> flask.Response:
    return view.go_to(HOME)


@pages.page("GET", SIGN_IN, is_open=True)
def sign_in_form(view: View) -> flask.Response:
    return view.render("sign_in.html", error=None)


@pages.page("POST", SIGN_IN, is_open=True)
def sign_in_with_token(view: View, form: Form) -> flask.Response:
    """Begin a session, and go on to the page that was asked for."""
    cookie = sign_in(bootstrap.settings(), form.get("token", "").strip())
    if cookie is None:
        return view.render("sign_in.html", status=403, error="This is not a token of this Insignia.")
    wanted = view.request.args.get("next", HOME)
    response = view.go_to(wanted if wanted.startswith(HOME) else HOME)
    set_cookie(response, cookie)
    return response


@pages.page("POST", "/ui/sign-out", is_open=True)
def sign_out(view: View) -> flask.Response:
    response = view.go_to(SIGN_IN, notice="signed-out")
    set_cookie(response, "")
    return response


@pages.page("GET", "/ui/assets/{name}", is_open=True)
def file(view: View, name: str) -> flask.Response:
    return asset(view.request, ASSETS, name)
