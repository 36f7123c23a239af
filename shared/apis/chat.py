"""The chat completions request: the members that policy reads and changes. The rest passes unread."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ..core.errors import InvalidJson, InvalidRequest
from ..core.models import API_V1, OUTPUT_FIELDS, Deployment, Quirks
from .json_problems import problem

MAX_CHOICES = 128

_NULL = msgspec.Raw(b"null")
_NOT_REQUESTED = (None, _NULL, msgspec.Raw(b"false"))
_wrong_type = re.compile(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`").match
_out_of_range = re.compile(r"Expected `int` [<>]= ").match
_unknown_member = re.compile(
    r"Unrecognized request argument supplied: (\w+)"
    r"|Validation error at #/(\w+): Extra inputs are not permitted.*"
).fullmatch
_TYPES = {
    "object": "an object",
    "array": "a list",
    "str": "a string",
    "int": "a whole number",
    "float": "a decimal number",
    "bool": "true or false",
}

_Tokens = Annotated[int, msgspec.Meta(ge=1)]


class ChatRequest(msgspec.Struct, frozen=True):
    """The members that policy reads. If a member comes twice, the last one counts, here and upstream."""

    model: str | None = None
    stream: bool | None = None
    stream_options: dict[str, msgspec.Raw] | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)] | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether the client requested the usage chunk of a stream."""
        return (self.stream_options or {}).get("include_usage") not in _NOT_REQUESTED

    @property
    def output_tokens(self) -> int | None:
        """The client's output limit for each choice; None if it sets none."""
        old, new = self.max_tokens, self.max_completion_tokens
        return max(old, new) if old and new else old or new


_decode = msgspec.json.Decoder(ChatRequest).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def parse(body: bytes) -> ChatRequest:
    """Read the members that policy needs.

    Raises:
        InvalidJson: the body is not JSON in UTF-8, or is nested too deeply.
        InvalidRequest: it is not an object, or a member has the wrong type or is out of range.
    """
    try:
        if not body.isascii():
            body.decode()
        return _decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidJson(f"The body is not valid JSON{problem(body, error)}.") from error


def upstream_body(
    body: bytes, request: ChatRequest, deployment: Deployment, output_limit: int | None, quirks: Quirks
) -> bytes:
    """The body for this deployment: the client's members, changed only where policy requires it.

    Every other value keeps its bytes: numbers, escapes and nested members are not decoded. `parse` must have
    accepted `body`.
    """
    members = _members(body)
    if deployment.api_version == API_V1:
        members["model"] = deployment.deployment_name
    if output_limit is not None:
        members.update(_limits(request, deployment, output_limit))
    if request.stream and not request.wants_usage:
        members["stream_options"] = {**(request.stream_options or {}), "include_usage": True}
    if quirks.output_field is not None:
        _use_output_field(members, quirks.output_field)
    if not quirks.stream_options:
        members.pop("stream_options", None)
    return _encode(members)


def has_own_data(body: bytes) -> bool:
    """Whether the request uses a data source of the attendee (Azure OpenAI "on your data").

    Azure returns the errors of such a source as if they were its own.
    """
    return not _members(body).keys().isdisjoint({"data_sources", "dataSources"})


def learned_quirks(error: Mapping[str, Any], quirks: Quirks) -> Quirks | None:
    """The quirks that a 400 with this `error` shows; None if it shows none, so that a retry would not help.

    Only two kinds of 400 show one: the code `unsupported_parameter` with the parameter's name, and a message
    about an unknown member.
    """
    param = error.get("param")
    if error.get("code") != "unsupported_parameter":
        unknown = _unknown_member(str(error.get("message")))
        param = unknown[1] or unknown[2] if unknown else None
    if param == "stream_options" and quirks.stream_options:
        return quirks._replace(stream_options=False)
    if param in OUTPUT_FIELDS and quirks.output_field is None:
        other = OUTPUT_FIELDS[param == OUTPUT_FIELDS[0]]
        return quirks._replace(output_field=other)
    return None


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


def _invalid(reason: str) -> InvalidRequest:
    """Translate msgspec's "Expected `int | null`, got `str` - at `$.max_tokens`"."""
    param = reason.partition(" - at `$.")[2].strip("`") or None
    subject = f"'{param}'" if param else "The body"
    if _out_of_range(reason):
        allowed = f"from 1 to {MAX_CHOICES}" if param == "n" else "at least 1"
        return InvalidRequest(f"{subject} must be {allowed}.", param=param)
    types = _wrong_type(reason)
    if types is None:
        return InvalidRequest(f"{subject} is out of range.", param=param)
    expected, got = (_TYPES.get(name, name) for name in types.groups())
    return InvalidRequest(f"{subject} must be {expected}, not {got}.", param=param)
