"""What `GET /v1/models` and `GET /v1/event` return about an event."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..core.models import Credential, Event, Served
from .admission import is_blocked
from .model_choice import usable_models


def model_list(event: Event, served: Served) -> dict[str, Any]:
    """The models that the event allows, in the form of OpenAI's list."""
    models = usable_models(event, served)
    return {"object": "list", "data": [model_entry(event, model, served) for model in models]}


def model_entry(event: Event, model: str, served: Served) -> dict[str, Any]:
    """One entry of the list. `apis` is our own member: the APIs that serve the model."""
    created, apis = int(event.starts_at.timestamp()), list(served[model])
    return {"id": model, "object": "model", "created": created, "owned_by": "azure-openai", "apis": apis}


def event_description(credential: Credential, event: Event, served: Served, now: datetime) -> dict[str, Any]:
    """The attendee's name, and what the event allows."""
    models = usable_models(event, served)
    return {
        "object": "event",
        "event_code": event.code,
        "user": credential.user,
        "name": event.name,
        "organizer": event.organizer,
        "access": event.access,
        "blocked": is_blocked(event, credential.user),
        "open": event.active and event.starts_at <= now < event.ends_at,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "time_zone": event.time_zone.key,
        "models": models,
        "model_apis": {model: list(served[model]) for model in models},
        "default_model": event.default_model,
        "max_output_tokens": event.max_output_tokens,
    }
