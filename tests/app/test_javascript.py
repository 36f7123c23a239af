"""Clients in JavaScript. `python3 dev.py test --clients` tries many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import matrix
from tests.clients.client import Client
from tests.conftest import MODEL, Stage
from tests.javascript import program

pytestmark = pytest.mark.one_python


@pytest.mark.parametrize("name", ["openai_javascript", "ai_sdk"])
async def test_javascript_client_works_and_shows_our_messages(
    stage: Stage, name: str, tmp_path: Path
) -> None:
    await stage.tables.put_deployment(matrix.embedding_deployment_of(stage))
    variables = {
        "EVENT_ENDPOINT": f"{stage.url}/v1",
        "EVENT_MODEL": MODEL,
        "EVENT_EMBEDDING_MODEL": matrix.EMBEDDING_MODEL,
    }
    client = Client(name, ["node", str(program(name, tmp_path))], variables)
    await matrix.test_client_works_and_shows_our_messages(stage, client)
