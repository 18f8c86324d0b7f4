"""Rows of the engine in JSON: one value for a whole batch, into a statement and out of it.

By orjson, which takes a fifth of the time of the standard library, and by which ids stay texts. For the engine's own
rows only: it knows no integer of more than 64 bits, and a payload may have one.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Executable


def json_rows(rows: Sequence[Mapping[str, Any] | str]) -> str:
    """Rows for json_to_recordset, which may have instants.

    What no UTF-8 can hold is left to the database, which refuses it row by row.
    """
    try:
        return orjson.dumps(rows).decode()
    except orjson.JSONEncodeError:
        return json.dumps(rows, default=str)


def read_json(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> Any:
    """The value of a statement that answers with one JSON text (`::text`)."""
    return orjson.loads(connection.execute(statement, values).scalar_one())


def read_all_json(connection: Connection, statements: Executable, values: Mapping[str, Any]) -> list[Any]:
    """The values of statements that are sent together (db/driver.py), each of which answers with one JSON text."""
    return [orjson.loads(answer) for answer in connection.execute(statements, values).scalars()]
