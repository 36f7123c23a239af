"""Chat completions: the members that policy reads and changes. The rest passes unread."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ..core.errors import InvalidJson, InvalidRequest
from ..core.models import API_V1, OUTPUT_FIELDS, Deployment
from .api import Api
from .chat_files import check_files
from .chat_stream import ChatStream
from .decoding import decode
from .extras import Extras
from .json_problems import problem
from .quirks import Quirks
from .response_sealing import Sealer

MAX_CHOICES = 128
MAX_OPTIONS_BYTES = 10_000
_RANGES = {"n": (1, MAX_CHOICES)}

_NULL = msgspec.Raw(b"null")
_NOT_REQUESTED = (_NULL, msgspec.Raw(b"false"))
_unknown_member = re.compile(
    r"Unrecognized request argument supplied: (\w+)"
    r"|Validation error at #/(\w+): Extra inputs are not permitted.*"
).fullmatch
_Tokens = Annotated[int, msgspec.Meta(ge=1)]


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: msgspec.Raw = _NULL


class ChatRequest(Extras, frozen=True):
    """The members that policy reads. If a member comes twice, the last one counts, here and upstream."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)] | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether the client requested the usage chunk of a stream."""
        options = self.stream_options
        return options is not None and options.include_usage not in _NOT_REQUESTED

    @property
    def output_tokens(self) -> int | None:
        """The client's output limit for each choice; None if it sets none."""
        old, new = self.max_tokens, self.max_completion_tokens
        return max(old, new) if old and new else old or new


_PLAIN_MEMBERS = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "user",
}
_decoder = msgspec.json.Decoder(ChatRequest)
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Chat(Api):
    name, title, path = "chat", "chat completions", "chat/completions"
    prompt_member = "messages"

    def parse(self, body: bytes, encoding: bytes = b"") -> ChatRequest:
        return decode(_decoder, body, encoding, _RANGES)

    def check(self, body: bytes) -> None:
        check_files(body)

    def unstored(self, body: bytes) -> bytes:
        members = _members(body)
        if members.get("store", _NULL) in _NOT_REQUESTED:
            return body
        members["store"] = False
        return _encode(members)

    def upstream_body(
        self,
        body: bytes,
        request: ChatRequest,
        deployment: Deployment,
        output_limit: int | None,
        quirks: Quirks,
    ) -> bytes:
        members = _members(body)
        if deployment.api_version == API_V1:
            members["model"] = deployment.deployment_name
        if output_limit is not None:
            members.update(_limits(request, deployment, output_limit))
        if request.stream and not request.wants_usage:
            members["stream_options"] = {**_stream_options(members), "include_usage": True}
        if quirks.output_field is not None:
            _use_output_field(members, quirks.output_field)
        if not quirks.stream_options:
            members.pop("stream_options", None)
        return _encode(members)

    def stream_reader(self, request: ChatRequest, sealer: Sealer | None) -> ChatStream:
        return ChatStream(hide=not request.wants_usage)

    def learned_quirks(self, error: Mapping[str, Any], quirks: Quirks) -> Quirks | None:
        """A deployment that now refuses the field that `quirks` name accepts the other one.

        Only two kinds of 400 show a quirk: the code `unsupported_parameter` with the parameter's name, and a
        message about an unknown member.
        """
        param = error.get("param")
        if error.get("code") != "unsupported_parameter":
            unknown = _unknown_member(str(error.get("message")))
            param = unknown[1] or unknown[2] if unknown else None
        if param == "stream_options" and quirks.stream_options:
            return quirks._replace(stream_options=False)
        if param in OUTPUT_FIELDS and quirks.output_field in {None, param}:
            other = OUTPUT_FIELDS[param == OUTPUT_FIELDS[0]]
            return quirks._replace(output_field=other)
        return None

    def is_plain(self, body: bytes, request: ChatRequest) -> bool:
        """Other members restrict each other: for example, a model that accepts an output field may refuse it
        together with `prediction`."""
        members = _members(body)
        options = _stream_options(members).keys()
        if options and not (request.stream and options <= {"include_usage"}):
            return False
        return members.keys() <= _PLAIN_MEMBERS.union(OUTPUT_FIELDS)

    def has_own_data(self, body: bytes) -> bool:
        """Azure OpenAI calls it "on your data"."""
        return not _members(body).keys().isdisjoint({"data_sources", "dataSources"})


CHAT = Chat()


def _members(body: bytes) -> dict[str, Any]:
    """The members of the body, with their values as raw bytes.

    Raises:
        InvalidJson: the values are nested too deeply. On Python 3.11 that also depends on the stack, so
            `parse` may have accepted them.
    """
    try:
        return _decode_members(body)
    except RecursionError as error:
        raise InvalidJson(f"The body is not valid JSON{problem(body, error)}.") from error


def _stream_options(members: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    """Raises InvalidRequest: they are so long that reading them would stop the event loop."""
    options = members.get("stream_options", _NULL)
    if options == _NULL:
        return {}
    if len(bytes(options)) > MAX_OPTIONS_BYTES:
        raise InvalidRequest("'stream_options' is too long. Send only its options.", param="stream_options")
    return _decode_members(options)


def _limits(request: ChatRequest, deployment: Deployment, output_limit: int) -> dict[str, int]:
    """The members that lower the client's output limits to `output_limit`, or set it if there are none."""
    if request.output_tokens is None:
        return {deployment.output_field: output_limit}
    requested = {name: getattr(request, name) for name in OUTPUT_FIELDS}
    return {name: output_limit for name, value in requested.items() if value and value > output_limit}


def _use_output_field(members: dict[str, Any], field: str) -> None:
    """Move the output limit to the field that the deployment accepts."""
    for other in OUTPUT_FIELDS:
        if other != field and (limit := members.pop(other, _NULL)) != _NULL:
            members[field] = limit
