import flask
import pytest
from werkzeug.test import EnvironBuilder

from functions.auth import require_token
from functions.problems import Unauthorized

TOKENS = ("first-token-of-the-tests", "second-token-of-the-tests")


def request_with(authorization: str | None) -> flask.Request:
    headers = [] if authorization is None else [("Authorization", authorization)]
    return flask.Request(EnvironBuilder(headers=headers).get_environ())


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_each_token_opens_whatever_the_case_of_the_scheme(scheme: str, token: str) -> None:
    require_token(request_with(f"{scheme} {token}"), TOKENS)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic Zmlyc3Q6dG9rZW4=", TOKENS[0]]
)
def test_without_a_token_the_challenge_names_no_error(authorization: str | None) -> None:
    with pytest.raises(Unauthorized) as caught:
        require_token(request_with(authorization), TOKENS)
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="insignia"'}


@pytest.mark.parametrize(
    "token", ["wrong", TOKENS[0][:-1], TOKENS[0] + "x", TOKENS[0].upper(), ",".join(TOKENS), "tökén", "\x80"]
)
def test_a_wrong_token_is_called_invalid_and_not_repeated(token: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        require_token(request_with(f"Bearer {token}"), TOKENS)
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="insignia", error="invalid_token"'}
    assert token not in str(caught.value)


def test_no_token_opens_when_none_is_set() -> None:
    with pytest.raises(Unauthorized):
        require_token(request_with("Bearer anything"), ())
