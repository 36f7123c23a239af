"""What a changed deployment means for requests: which of them are refused now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.core.models import Deployment, Event
from shared.core.money import prices_of

if TYPE_CHECKING:
    from admin.tables import Tables


async def of_model(tables: Tables, model: str) -> list[str]:
    """A note if no deployment serves the model."""
    if any(one.model == model and one.active for one in await tables.deployments()):
        return []
    return [
        f"No active deployment serves {model!r} now, so its requests are refused. "
        "To add one, use `deployments add`."
    ]


async def of_prices(tables: Tables, deployment: Deployment) -> list[str]:
    """A note if events with a budget that are not over refuse the model because of this deployment."""
    events, _ = await tables.events()
    now = datetime.now(UTC)
    codes = [event.code for event in events if event.ends_at > now and _is_closed(event, deployment)]
    if not codes:
        return []
    model, has_price = deployment.model, prices_of(deployment) is not None
    why = f"its prices are in {deployment.currency}" if has_price else "the deployment has no price"
    return [
        f"Events with a budget refuse requests to {model!r} now, because {why}: {', '.join(sorted(codes))}. "
        f"Set its prices in the currency of the budget with `deployments update {model} {deployment.id}`."
    ]


def _is_closed(event: Event, deployment: Deployment) -> bool:
    if not (event.has_budget and deployment.active):
        return False
    prices = prices_of(deployment)
    is_used = not event.models or deployment.model in event.models
    return is_used and (prices is None or prices.currency != event.currency)
