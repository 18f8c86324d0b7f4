"""A running Insignia, over its API."""

from typing import Any

import requests

from domain.errors import InsigniaError
from functions import bootstrap
from functions.local import host_of_url
from functions.settings import SettingsError, load, read_environment

TIMEOUT_SECONDS = 300
Document = dict[str, Any]


class Refused(InsigniaError):
    """The answer was not what was asked for; `errors` point into what was sent."""

    def __init__(self, detail: str, errors: list[Document]) -> None:
        super().__init__(detail)
        self.errors = errors


class Remote:
    """The Insignia at INSIGNIA_URL, or the local run; raises Refused, and SettingsError without a token."""

    def __init__(self) -> None:
        if (settings := load(read_environment())).insignia_url is None:
            settings = bootstrap.settings()  # with the token of the local run
        if not settings.api_tokens:
            raise SettingsError("API_TOKEN is missing; expected the token of the Insignia at INSIGNIA_URL.")
        self.url = settings.insignia_url or f"http://{host_of_url(settings)}:{settings.port}"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {settings.api_tokens[0]}"

    def get(self, path: str) -> Document:
        return self._ask("GET", path)

    def post(self, path: str, body: Document) -> Document:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **options: Any) -> Document:
        try:
            answer = self._session.request(
                method, self.url + path, timeout=TIMEOUT_SECONDS, allow_redirects=False, **options
            )
            document: Document = answer.json()
        except requests.JSONDecodeError:
            raise Refused(
                f"{self.url} answers HTTP {answer.status_code}, but not as Insignia does.", []
            ) from None
        except requests.RequestException as error:
            raise Refused(
                f"{self.url} gives no answer ({type(error).__name__}); "
                "start Insignia there, or set INSIGNIA_URL to where it runs.",
                [],
            ) from None
        if not answer.ok:
            raise Refused(str(document.get("detail", answer.status_code)), document.get("errors") or [])
        return document
