from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from functions.declared import TaskFile
from functions.schemas import TaskCreate
from functions.task_file import read_tasks, without_defaults, write_tasks

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert read_tasks(write_tasks([{"payload": value}])) == [{"payload": value}]


def test_yaml_has_no_surprises() -> None:
    text = "tasks: [{run_at: 2100-01-01T00:00:00Z, name: on, payload: [no, true, truest, 0x10, 1.5, null]}]"
    assert read_tasks(text) == [
        {"run_at": "2100-01-01T00:00:00Z", "name": "on", "payload": ["no", True, "truest", 16, 1.5, None]}
    ]


def test_json_is_read_too() -> None:
    assert read_tasks('{"tasks": [{"payload": 1e22}]}') == [{"payload": 1e22}]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "'tasks:'"),
        ("tasks: {}", "'tasks:'"),
        ("- name: x", "'tasks:'"),
        ("tasks: []\nprune: true", "'prune' is not known"),
        ("tasks:\n  - name: x\n    name: y", "a key occurs more than once, at line 2"),
        ("tasks:\n  - [", "not valid YAML"),
        ("tasks: [!!binary aGk=]", "JSON does not have"),
        ("tasks: [.nan]", "JSON does not have"),
        ("tasks: [!!python/name:os.system x]", "not valid YAML"),
        ("tasks: \0", "not valid YAML"),
        ('{"tasks": [}', "not valid JSON"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(text: str, part: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_tasks(text)
    assert "\n" not in str(refused.value)
    assert part in str(refused.value)


def test_defaults_are_left_out() -> None:
    task = TaskCreate(name="One", schedule="@daily", webhook_url="https://hooks.example.com/")
    (exported,) = TaskFile(tasks=[task]).model_dump(mode="json")["tasks"]
    assert without_defaults(exported) == {
        "name": "One",
        "schedule": "@daily",
        "webhook_url": "https://hooks.example.com/",
    }
