"""Chooses the model for a request: the one that it names, or the event's default."""

from __future__ import annotations

from ..core.errors import InvalidRequest, ModelNotFound
from ..core.models import Event


def choose_model(event: Event, requested: str | None, deployed: frozenset[str]) -> str:
    """The requested model; without one, the event's default or its only model.

    Raises:
        ModelNotFound: the event does not allow this model, or it is not deployed.
        InvalidRequest: the request names no model, and the event has no default.
    """
    model = requested or event.default_model
    if model is not None and model in deployed and (model in event.models or not event.models):
        return model
    usable = usable_models(event, deployed)
    if model is None and len(usable) == 1:
        return usable[0]
    if model is None:
        raise InvalidRequest(f"The request names no model. {_advice(usable)}", param="model")
    raise ModelNotFound(f"You cannot use {model[:64]!r} at this event. {_advice(usable)}", param="model")


def usable_models(event: Event, deployed: frozenset[str]) -> list[str]:
    """The deployed models that the event allows, in the event's order."""
    return [model for model in event.models if model in deployed] if event.models else sorted(deployed)


def _advice(usable: list[str]) -> str:
    if not usable:
        return "The event has no models yet. Ask your organiser."
    return f"Use one of: {', '.join(usable)}."
