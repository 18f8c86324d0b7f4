"""The OpenAPI document, kept in docs/openapi.json so that a review sees what changes: `make openapi`."""

import json
from pathlib import Path

import main
from functions.openapi import openapi_document

SNAPSHOT = Path(__file__).parents[1] / "docs/openapi.json"


def current() -> str:
    return json.dumps(openapi_document(main.documented), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(current())
