import json
from datetime import UTC, datetime

import pytest

from db.json_rows import json_rows

SLOT = datetime(2026, 11, 30, 17, 55, tzinfo=UTC)


@pytest.mark.parametrize("text", ["plain", "half a character \ud800"])
def test_rows_have_their_instants_also_beside_what_no_utf_8_can_hold(text: str) -> None:
    (row,) = json.loads(json_rows([{"slot": SLOT, "message": text}]))
    assert datetime.fromisoformat(row["slot"]) == SLOT
    assert row["message"] == text
