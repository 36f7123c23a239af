"""The tables, with the writes that only tests need."""

from __future__ import annotations

from azure.data.tables import UpdateMode

from admin.tables import Tables as AdminTables
from shared.core.counts import UsageRow
from shared.core.models import Deployment, Event, Health
from shared.tables.deployment_rows import deployment_to_row
from shared.tables.event_rows import event_to_row


class Tables(AdminTables):
    async def put_event(self, event: Event) -> None:
        """Add or replace an event."""
        await self._event_rows.upsert_entity(event_to_row(event), mode=UpdateMode.REPLACE)

    async def put_deployment(self, deployment: Deployment) -> None:
        """Add or replace a deployment."""
        await self._deployment_rows.upsert_entity(deployment_to_row(deployment), mode=UpdateMode.REPLACE)

    async def health(self) -> dict[tuple[str, str], Health]:
        """The health of each deployment that was used, by model and id."""
        return (await self.deployments_and_health())[1]

    async def usage(self, event_code: str) -> list[UsageRow]:
        return (await self.read_usage(event_code))[0]
