"""Values to wire models: what pydantic finds becomes sentences that say what is wrong and what to do."""

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from domain.errors import InvalidInput
from functions.fields import EXAMPLE_INSTANT, EXAMPLE_UUID
from functions.json_body import pointer
from functions.problems import Fault, InvalidRequest

MAX_FAULTS = 20
LONGEST_VALUE_SHOWN = 60

Model = TypeVar("Model", bound=BaseModel)

KINDS: Mapping[type[Any], str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}

SENTENCES: Mapping[str, Callable[[str, Any, dict[str, Any]], str]] = {
    "missing": lambda name, *_: f"{name} is required.",
    "model_type": lambda name, value, _: f"{name} must be a JSON object, not {KINDS[type(value)]}.",
    "list_type": lambda name, value, _: f"{name} must be an array, not {KINDS[type(value)]}.",
    "too_long": lambda name, value, rule: (
        f"{name} has {len(value):,} items; at most {rule['max_length']:,} are allowed."
    ),
    "bool_type": lambda name, value, _: f"{name} must be true or false, not {shown(value)}.",
    "string_type": lambda name, value, _: f"{name} must be a string, not {KINDS[type(value)]}.",
    "string_too_short": lambda name, *_: f"{name} must not be empty.",
    "string_too_long": lambda name, value, rule: (
        f"{name} has {len(value):,} characters; at most {rule['max_length']:,} are allowed."
    ),
    "whole_number": lambda name, value, _: f"{name} must be a whole number, not {shown(value)}.",
    "greater_than_equal": lambda name, value, rule: (
        f"{name} must be at least {rule['ge']}; it is {shown(value)}."
    ),
    "less_than_equal": lambda name, value, rule: (
        f"{name} must be at most {rule['le']}; it is {shown(value)}."
    ),
    "enum": lambda name, value, rule: f"{name} must be {rule['expected']}, not {shown(value)}.",
    "literal_error": lambda name, value, rule: f"{name} must be {rule['expected']}, not {shown(value)}.",
    "uuid": lambda name, value, _: f"{name} must be a UUID such as {EXAMPLE_UUID}, not {shown(value)}.",
    "instant": lambda name, value, _: (
        f"{name} must be a date and time such as '{EXAMPLE_INSTANT}', not {shown(value)}."
    ),
    "instant_range": lambda name, *_: f"{name} must lie in the years 1 to 9999 in UTC.",
    "dict_type": lambda name, value, _: f"{name} must be an object, not {KINDS[type(value)]}.",
    "signing_secret": lambda name, *_: f"{name} must be a string such as 'whsec_…', or a list of them.",
    "page_token": lambda name, *_: f"{name} is not one of ours; use the next_page_token of the page before.",
    "page_token_order": lambda name, *_: (
        f"{name} belongs to a list in another order; send the order_by that it came with."
    ),
    "skip_or_page_token": lambda *_: "skip and page_token exclude each other; send one of them.",
    "base64": lambda name, *_: f"{name} must be base64.",
    "tags": lambda name, *_: f'{name} must be an array of strings such as ["billing"].',
    "neither": lambda *_: "schedule is required; a task that runs once has run_at in its place.",
    "both": lambda *_: "schedule and run_at exclude each other; send one of them.",
    "nul": lambda name, *_: f"{name} contains the character NUL, which no name can have; remove it.",
}
"""Type of a pydantic error -> the sentence for (name of the field, its value, the rule's figures)."""


def validated(model: type[Model], value: Any) -> Model:
    """`value` as `model`; raises InvalidRequest with one fault for each broken rule."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
    faults = [Fault(pointer(detail["loc"]), sentence(model, detail)) for detail in details[:MAX_FAULTS]]
    cause = details[0].get("ctx", {}).get("error")
    raise InvalidRequest(faults, type(cause) if isinstance(cause, InvalidInput) else InvalidInput)


def sentence(model: type[BaseModel], detail: ErrorDetails) -> str:
    """What is wrong, for people; the sentence of a domain error is taken as it is."""
    context = detail.get("ctx", {})
    if isinstance(context.get("error"), InvalidInput):
        return str(context["error"])
    *path, last = detail["loc"] or ["The body"]
    name = f"{path[-1]}/{last}" if isinstance(last, int) and path else str(last)
    if detail["type"] == "extra_forbidden":
        return unknown_field(model_at(model, path), name)
    if detail["type"] in SENTENCES:
        return SENTENCES[detail["type"]](name, detail["input"], context)
    return f"{name} is not valid."


def model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """The model of what is found in `model` at `path`: the only nested ones are items of an array."""
    for name in path:
        if isinstance(name, str) and name in model.model_fields:
            (model,) = get_args(model.model_fields[name].annotation)
    return model


def unknown_field(model: type[BaseModel], name: str) -> str:
    similar = get_close_matches(name[:LONGEST_VALUE_SHOWN], model.model_fields, 1, 0.75)
    advice = f"did you mean '{similar[0]}'?" if similar else "remove it."
    return f"{shown(name)} is not a field of this request; {advice}"


def shown(value: Any) -> str:
    """A value as a sentence can show it: short, texts in single quotes."""
    if isinstance(value, dict | list):
        return KINDS[type(value)]
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE_SHOWN else f"{text[:LONGEST_VALUE_SHOWN]}…"
