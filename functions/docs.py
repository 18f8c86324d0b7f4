"""/docs, /redoc and /openapi.json: the documentation, without a token, from our own assets only."""

import json
from collections.abc import Mapping, Sequence
from functools import cache

import flask

from functions.browser_files import ASK_AGAIN, STRICT_POLICY, asset, cached, guarded, version
from functions.routing import Route, Routes

REDOC_POLICY = (
    STRICT_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'") + "; worker-src blob:"
)
"""ReDoc writes <style> elements, and searches in a worker that it makes itself."""

SWAGGER_UI_ASSETS = {
    "swagger-ui.css": "swagger-ui-dist/swagger-ui.css",
    "swagger-ui-bundle.js": "swagger-ui-dist/swagger-ui-bundle.js",
    "swagger-ui.init.js": "swagger-ui.init.js",
}
REDOC_ASSETS = {
    "redoc.standalone.js": "redoc/redoc.standalone.js",
    "redoc.init.js": "redoc.init.js",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Insignia API</title>
<link rel="icon" href="data:,">
{elements}
</head>
<body><div id="page"></div></body>
</html>
"""
STYLESHEET = '<link rel="stylesheet" href="{url}">'
SCRIPT = '<script defer src="{url}" data-openapi="{openapi}"></script>'


def routes(documented: Sequence[Route]) -> Routes:
    """The pages that document `documented`."""
    result = Routes("Documentation")

    @cache
    def document() -> bytes:
        from functions.openapi import openapi_document  # only those who read it wait for it

        return json.dumps(openapi_document(documented), ensure_ascii=False).encode()

    @result.add("GET", "/openapi.json", is_public=True)
    def openapi(request: flask.Request) -> flask.Response:
        """The OpenAPI document."""
        return cached(request, document(), "application/json", ASK_AGAIN)

    @result.add("GET", "/docs", is_public=True)
    def swagger_ui(request: flask.Request) -> flask.Response:
        """Swagger UI."""
        return page(request, "docs", SWAGGER_UI_ASSETS, STRICT_POLICY)

    @result.add("GET", "/docs/{name}", is_public=True)
    def swagger_ui_asset(request: flask.Request, name: str) -> flask.Response:
        """A file of Swagger UI."""
        return asset(request, SWAGGER_UI_ASSETS, name)

    @result.add("GET", "/redoc", is_public=True)
    def redoc(request: flask.Request) -> flask.Response:
        """ReDoc."""
        return page(request, "redoc", REDOC_ASSETS, REDOC_POLICY)

    @result.add("GET", "/redoc/{name}", is_public=True)
    def redoc_asset(request: flask.Request, name: str) -> flask.Response:
        """A file of ReDoc."""
        return asset(request, REDOC_ASSETS, name)

    return result


def page(request: flask.Request, name: str, assets: Mapping[str, str], policy: str) -> flask.Response:
    """A page that loads `assets`, by relative URLs: what stands before our paths may have been cut off."""
    here, above = ("", "../") if request.path.endswith("/") else (f"{name}/", "")
    elements = "\n".join(
        (STYLESHEET if asset_name.endswith(".css") else SCRIPT).format(
            url=f"{here}{asset_name}?v={version(file)}", openapi=f"{above}openapi.json"
        )
        for asset_name, file in assets.items()
    )
    response = cached(request, PAGE.format(elements=elements).encode(), "text/html; charset=utf-8", ASK_AGAIN)
    return guarded(request, response, policy)
