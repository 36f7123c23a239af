"""The responses to GET /v1/models and GET /v1/event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ..core.errors import ProxyError
from ..core.models import Event, Served
from ..events import descriptions
from ..events.admission import admit
from ..events.credentials import read_credential
from ..events.lookup import Events
from ..events.model_choice import find_model, usable_models
from ..functions.http import Response
from ..quota.quota import Quota
from ..quota.standing import least_call
from ..upstream.routing import Routing
from .incoming import Headers
from .outgoing import error_response, json_response


class Listings:
    """Describes an attendee's event and models. Each method raises ProxyError if the event is not known."""

    def __init__(self, events: Events, routing: Routing, quota: Quota, now: Callable[[], datetime]) -> None:
        self._events = events
        self._routing = routing
        self._quota = quota
        self._now = now

    async def models(self, headers: Headers) -> Response:
        """The models that the attendee can use, in the form of OpenAI's list."""
        return await self._of_open_event(headers, descriptions.model_list)

    async def model(self, headers: Headers, name: str) -> Response:
        """One entry of that list."""
        return await self._of_open_event(
            headers,
            lambda event, served: descriptions.model_entry(event, find_model(event, name, served), served),
        )

    async def event(self, headers: Headers) -> Response:
        """The attendee's event and quotas, whether it is open or not."""
        credential, event = await self._events.find_for(read_credential(headers), may_lack_pass=True)
        routes, now = await self._routing.routes(), self._now()
        standing = await self._quota.standing(credential, event, now)
        described = descriptions.event_description(credential, event, routes.served, now)
        models = usable_models(event, routes.served)
        least = least_call(routes.of(api).prices[model] for model in models for api in routes.served[model])
        return json_response(described | standing.figures(least), standing.headers(now.timestamp()))

    async def _of_open_event(self, headers: Headers, describe: Callable[[Event, Served], Any]) -> Response:
        """Describe the attendee's event, or say why it is closed. The headers have the quotas."""
        now = self._now()
        credential, event = await self._events.find_for(read_credential(headers))
        standing = await self._quota.standing_headers(credential, event, now)
        try:
            admit(event, credential.user, now)
            return json_response(describe(event, (await self._routing.routes()).served), standing)
        except ProxyError as error:
            return error_response(error, standing)
