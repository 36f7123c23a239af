"""What `GET /v1/models` and `GET /v1/event` return about an event."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..core.models import Credential, Event
from .model_choice import usable_models


def model_list(event: Event, deployed: frozenset[str]) -> dict[str, Any]:
    """The models that the event allows, in the form of OpenAI's list."""
    return {"object": "list", "data": [model_entry(event, model) for model in usable_models(event, deployed)]}


def model_entry(event: Event, model: str) -> dict[str, Any]:
    """One entry of the list."""
    created = int(event.starts_at.timestamp())
    return {"id": model, "object": "model", "created": created, "owned_by": "azure-openai"}


def event_description(
    credential: Credential, event: Event, deployed: frozenset[str], now: datetime
) -> dict[str, Any]:
    """The attendee's name, and what the event allows."""
    return {
        "object": "event",
        "event_code": event.code,
        "user": credential.user,
        "name": event.name,
        "organizer": event.organizer,
        "open": event.active and event.starts_at <= now < event.ends_at,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "time_zone": event.time_zone.key,
        "models": usable_models(event, deployed),
        "default_model": event.default_model,
        "max_output_tokens": event.max_output_tokens,
    }
