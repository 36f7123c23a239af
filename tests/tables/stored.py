"""Events and deployments for the tests: with every field set, or only the required ones."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from zoneinfo import ZoneInfo

from shared.core.models import Deployment, Event, LongPrices
from shared.tables.tables import Tables

START = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
END = datetime(2026, 3, 29, 12, microsecond=123456, tzinfo=UTC)
HOUR = datetime(2026, 12, 1, 9, tzinfo=UTC)
_numbers = count(1)


def code() -> str:
    return f"tables-{next(_numbers)}"


def full_event() -> Event:
    return Event(
        code=code(),
        name="Fête 日本 'quoted'",
        starts_at=START,
        ends_at=END,
        active=False,
        organizer="Zoë O'Neill",
        time_zone=ZoneInfo("Pacific/Auckland"),
        models=("gpt-4o", "gpt-4o-mini"),
        default_model="gpt-4o",
        max_output_tokens=1,
        requests_per_day=0,
        tokens_per_day=2**31,
        requests_per_minute=3,
        requests_total=2**40,
        tokens_total=2**62,
        cost_per_day=0,
        cost_total=2**40,
        currency="EUR",
        parallel=1000,
        tools=("web_search", "mcp"),
        store_responses=False,
        id_secret="5ec2e7" * 6,
        access="claim",
        pass_secret="9a55",
        desk_secret="de5c",
        seats=2**31,
        exceptions={"a@b.c": {"blocked": True}, "d+e": {"requests_per_day": 0, "colour": ["blue"]}},
        first_code="earlier",
    )


def full_deployment() -> Deployment:
    return Deployment(
        model="gpt-4o",
        id=code(),
        endpoint="https://one.openai.azure.com",
        deployment_name="gpt-4o-deployed",
        api_version="2024-10-21",
        auth="AZURE_KEY",
        priority=2,
        weight=3,
        prompt_price=Decimal("2.5"),
        completion_price=Decimal("0.0"),
        long_prices=LongPrices(272_000, Decimal(5), Decimal("0.5"), Decimal("22.5")),
        currency="EUR",
        output_field="max_tokens",
        active=False,
        apis=("embeddings", "images"),
    )


def plain_event() -> Event:
    return Event(code(), "", START, END)


def plain_deployment() -> Deployment:
    return Deployment("gpt-4o", code(), "https://two.openai.azure.com", "gpt-4o")


async def own_deployment(tables: Tables, deployment_id: str) -> Deployment | None:
    """The deployment with this id. Other tests use the same table."""
    return next((one for one in await tables.deployments() if one.id == deployment_id), None)
