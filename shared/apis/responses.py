"""The Responses API: the members that policy reads and changes. The rest passes unread.

Ids: see `response_opening` for requests and `response_sealing` for responses. Tools: see `response_tools`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ..core.errors import InvalidRequest, UnsupportedValue
from ..core.models import Deployment, Event, Usage
from .api import Api
from .decoding import decode
from .extras import Extras
from .quirks import Quirks
from .response_handles import NULL
from .response_sealing import Sealer
from .response_tools import check_tools
from .response_usage import usage_of
from .responses_stream import ResponsesStream

MOST_PARTS = 200_000
"""Decoding more would stop the event loop, in a thread as well. 10,000 messages have half as many."""

_NOT_SERVED = {
    "background": "The proxy does not serve background responses, because it could not count their tokens. "
    'Send "stream": true in place of "background": true.',
    "conversation": "The proxy does not serve conversations, because all attendees would share them. "
    "Send the messages in 'input', or 'previous_response_id' with the id of your last response.",
    "prompt": "The proxy does not serve prompt templates, because all attendees would share them. "
    "Send the text in 'instructions' and 'input'.",
}
"""By member: what is wrong with it, and what to do."""

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class ResponsesRequest(Extras, frozen=True):
    """The members that policy reads. If a member comes twice, the last one counts, here and upstream."""

    model: str | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    input: msgspec.Raw = NULL
    tools: msgspec.Raw = NULL
    tool_choice: msgspec.Raw = NULL
    conversation: msgspec.Raw = NULL
    prompt: msgspec.Raw = NULL

    @property
    def choices(self) -> int:
        return 1

    @property
    def output_tokens(self) -> int | None:
        """The client's output limit, with the tokens of reasoning; None if it sets none."""
        return self.max_output_tokens


_decoder = msgspec.json.Decoder(ResponsesRequest)


class Responses(Api):
    name, title, path = "responses", "Responses", "responses"
    prompt_member = "input"
    is_below_deployment = False
    has_ids = True
    is_kept_whole = True
    most_parts = MOST_PARTS

    def parse(self, body: bytes, encoding: bytes = b"") -> ResponsesRequest:
        request = decode(_decoder, body, encoding, {}, self.prompt_member)
        if request.background:
            raise UnsupportedValue(_NOT_SERVED["background"], "background")
        for name in ("conversation", "prompt"):
            if getattr(request, name) != NULL:
                raise UnsupportedValue(_NOT_SERVED[name], name)
        if request.input != NULL and not bytes(request.input).startswith((b'"', b"[")):
            raise InvalidRequest("'input' must be a string or a list.", param="input")
        return request

    def admit(self, request: ResponsesRequest, event: Event) -> None:
        """Raises ToolNotAllowed or UnsupportedValue: see `check_tools`."""
        # What a hosted tool costs is not reported, so an event with a budget allows none.
        allowed = () if event.has_budget else event.tools
        check_tools(request.tools, request.tool_choice, request.input, allowed)

    def upstream_body(
        self,
        body: bytes,
        request: ResponsesRequest,
        deployment: Deployment,
        output_limit: int | None,
        quirks: Quirks,
    ) -> bytes:
        """All forms of Azure's API take the deployment's name from the body. There are no quirks."""
        members: dict[str, Any] = _decode_members(body)
        members["model"] = deployment.deployment_name
        asked = request.max_output_tokens
        if output_limit is not None and (asked is None or asked > output_limit):
            members["max_output_tokens"] = output_limit
        return _encode(members)

    def stream_reader(self, request: ResponsesRequest, sealer: Sealer | None) -> ResponsesStream:
        """Reads a stream, and seals its ids with `sealer`. Raises ValueError without one."""
        if sealer is None:
            raise ValueError("the ids of a stream need a sealer")
        return ResponsesStream(sealer)

    def usage_of(self, body: bytes) -> Usage | None:
        return usage_of(body)


RESPONSES = Responses()
