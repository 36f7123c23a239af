"""What several tests of the commands use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.admin import deployments
from tests.conftest import KEY
from tests.seeded_tables import Tables
from tools.simulator import Deployment, Simulator


@pytest.fixture
async def azure(tables: Tables) -> AsyncIterator[Simulator]:
    """An Azure OpenAI with three deployments. Rows that a test adds for them are deleted at the end."""
    models = {
        "gpt-4o": Deployment(),
        "o3-mini": Deployment(),
        "old": Deployment(refuses_max_completion_tokens=True),
    }
    async with Simulator(keys={KEY}, deployments=models) as running:
        yield running
    await deployments.delete(tables)
