"""Chooses the model for a request: the one that it names, or the event's default."""

from __future__ import annotations

from ..core.errors import InvalidRequest, ModelNotFound
from ..core.models import API_TITLES, Event, Served


def choose_model(event: Event, requested: str | None, api: str, served: Served) -> str:
    """The requested model; without one, the event's default or its only model for this API.

    Raises:
        ModelNotFound: the event does not allow this model, or it is not deployed, or not for this API.
        InvalidRequest: the request names no model, and the event has no default for this API.
    """
    model = requested or event.default_model
    if model is not None and model in served and (model in event.models or not event.models):
        if api in served[model]:
            return model
        if requested:
            raise ModelNotFound(_wrong_api(event, model, api, served), param="model")
        model = None  # the default is for another API
    usable = usable_models(event, served, api)
    if model is None and len(usable) == 1:
        return usable[0]
    advice = _advice(event, usable, api, served)
    if model is None:
        raise InvalidRequest(f"The request names no model. {advice}", param="model")
    raise ModelNotFound(f"You cannot use {model[:64]!r} at this event. {advice}", param="model")


def find_model(event: Event, name: str, served: Served) -> str:
    """The model of this name, for any API. Raises ModelNotFound if the event may not use it."""
    usable = usable_models(event, served)
    if name not in usable:
        advice = f"Use one of: {', '.join(usable)}." if usable else _NO_MODELS
        raise ModelNotFound(f"You cannot use {name[:64]!r} at this event. {advice}", param="model")
    return name


def usable_models(event: Event, served: Served, api: str | None = None) -> list[str]:
    """The deployed models that the event allows, in the event's order; with `api`, those that serve it."""
    models = [model for model in event.models if model in served] if event.models else sorted(served)
    return [model for model in models if api is None or api in served[model]]


_NO_MODELS = "The event has no models yet. Ask your organiser."


def _wrong_api(event: Event, model: str, api: str, served: Served) -> str:
    title, others = API_TITLES[api], " and ".join(API_TITLES[other] for other in served[model])
    usable = usable_models(event, served, api)
    advice = f"For {title} use one of: {', '.join(usable)}." if usable else _no_model_for(api)
    return f"{model!r} serves {others}, not {title}. {advice}"


def _advice(event: Event, usable: list[str], api: str, served: Served) -> str:
    if usable:
        return f"Use one of: {', '.join(usable)}."
    return _no_model_for(api) if usable_models(event, served) else _NO_MODELS


def _no_model_for(api: str) -> str:
    return f"The event has no model for {API_TITLES[api]}. Ask your organiser."
