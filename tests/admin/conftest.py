"""What several tests of the commands use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.admin import deployments
from tests.conftest import KEY
from tests.seeded_tables import Tables
from tools.simulator import Deployment, Simulator

_CHAT = frozenset({"chat/completions"})


@pytest.fixture
async def azure(tables: Tables) -> AsyncIterator[Simulator]:
    """An Azure OpenAI with deployments for each API. Rows that a test adds for them are deleted at the end."""
    models = {
        "gpt-4o": Deployment(),
        "o3-mini": Deployment(),
        "o3": Deployment(),
        "old": Deployment(refuses_max_completion_tokens=True, apis=_CHAT),
        "images-by-name-only": Deployment(apis=_CHAT),
        "codex": Deployment(apis=frozenset({"responses"})),
        "text-embedding-3-small": Deployment(),
        "vectors": Deployment(apis=frozenset({"embeddings"})),
        "gpt-image-1": Deployment(),
        "pictures": Deployment(apis=frozenset({"images/generations"})),
        "nothing": Deployment(apis=frozenset()),
    }
    async with Simulator(keys={KEY}, deployments=models) as running:
        yield running
    await deployments.delete(tables)
