"""tasks.yaml: tasks as people write them, in YAML or JSON (docs/tasks-as-code.md)."""

import json
import re
from typing import Any

import yaml

from domain.errors import InvalidInput
from functions.json_body import parse_json
from functions.problems import MalformedBody
from functions.schemas import TaskCreate

Task = dict[str, Any]


def read_tasks(text: str) -> list[Task]:
    """The tasks of a file, not yet checked; raises InvalidInput, which names the line."""
    if text.lstrip().startswith("{"):
        try:
            document = parse_json(text.encode())
        except MalformedBody as error:
            raise InvalidInput(str(error).replace("The body", "The file", 1)) from None
    else:
        try:
            document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
        except yaml.MarkedYAMLError as error:
            where = f", at line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise InvalidInput(f"The file is not valid YAML: {error.problem}{where}.") from None
        except yaml.YAMLError as error:
            raise InvalidInput(f"The file is not valid YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(document, dict) or not isinstance(document.get("tasks"), list):
        raise InvalidInput(
            "The file must be an object with a list of tasks: 'tasks:' and a '-' for each task."
        )
    if more := document.keys() - {"tasks"}:
        raise InvalidInput(f"'{min(map(str, more))}' is not known beside 'tasks'; remove it.")
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidInput("The file has a value that JSON does not have; write it in quotes.") from None
    return list(document["tasks"])


def write_tasks(tasks: list[Task]) -> str:
    """The file as YAML."""
    return yaml.dump({"tasks": tasks}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def without_defaults(task: Task) -> Task:
    """A task of GET /tasks/export as people would write it."""
    kept = {}
    for name, value in task.items():
        default = TaskCreate.model_fields[name].get_default()
        if value != (list(default) if isinstance(default, tuple) else default):
            kept[name] = value
    return kept


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: 2026-12-24 is a text, on and no are words, and a key stands once."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the class it extends has it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        result = super().construct_mapping(node, deep)
        if len(result) < len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "a key occurs more than once", node.start_mark
            )
        return result


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|false)$"), ["t", "f"])


class _Dumper(yaml.SafeDumper):
    """YAML that people read: equal things stand in it as often as they are there."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """In quotes if it has the line break U+0085, which PyYAML would write unquoted, and read as another one."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text)
