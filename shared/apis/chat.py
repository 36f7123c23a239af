"""The chat completion request: what policy must read of it, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ..core.errors import InvalidJson, InvalidRequest
from ..core.models import API_V1, OUTPUT_FIELDS, Deployment, Ways
from .json_edit import DuplicateMember, edit, members, without
from .json_faults import fault

MAX_CHOICES = 128
_POLICY_NAMES = ("model", "stream", "stream_options", *OUTPUT_FIELDS, "n")
_quoted_names = re.compile(f'"(?:{"|".join(_POLICY_NAMES)})"'.encode()).findall

_UNSET = (None, msgspec.Raw(b"null"), msgspec.Raw(b"false"))
_mismatch = re.compile(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`").match
_beyond = re.compile(r"Expected `int` [<>]= ").match
_unknown_member = re.compile(
    r"Unrecognized request argument supplied: (\w+)"
    r"|Validation error at #/(\w+): Extra inputs are not permitted.*"
).fullmatch
_KINDS = {
    "object": "an object",
    "array": "a list",
    "str": "a string",
    "int": "a whole number",
    "float": "a decimal number",
    "bool": "true or false",
}


_Tokens = Annotated[int, msgspec.Meta(ge=1)]


class ChatRequest(msgspec.Struct, frozen=True):
    """The members that policy reads; all others stay in the bytes, unread."""

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
        """Whether the client itself asked for the usage chunk of a stream."""
        return (self.stream_options or {}).get("include_usage") not in _UNSET

    @property
    def output_tokens(self) -> int | None:
        """The output that the client allows for each choice; None when it sets no limit."""
        one, other = self.max_tokens, self.max_completion_tokens
        return max(one, other) if one and other else one or other


_decode = msgspec.json.Decoder(ChatRequest).decode
_encode = msgspec.json.encode


def parse(body: bytes) -> ChatRequest:
    """Read the body's policy members.

    Raises:
        InvalidJson: not JSON in UTF-8, or nested too deeply.
        InvalidRequest: not an object, a member of the wrong type or out of range, or one given twice.
    """
    try:
        if not body.isascii():
            body.decode()
        request = _decode(body)
        _refuse_duplicates(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except DuplicateMember as error:
        raise InvalidRequest(f"{error.name!r} is given twice.", param=error.name) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        told = f"The body is not valid JSON in UTF-8: {fault(body, error)}. Send an object with 'messages'."
        raise InvalidJson(told) from error
    return request


def upstream_body(body: bytes, request: ChatRequest, deployment: Deployment, output_cap: int | None) -> bytes:
    """The client's bytes, changed only where policy must: model name, output cap, usage in streams.

    `body` is one that `parse` has accepted.
    """
    changes = {} if output_cap is None else _capped(request, deployment, output_cap)
    if request.model != deployment.deployment_name and deployment.api_version == API_V1:
        changes["model"] = _encode(deployment.deployment_name)
    if request.stream and not request.wants_usage:
        changes["stream_options"] = _encode({**(request.stream_options or {}), "include_usage": True})
    return edit(body, changes, [name for name in changes if getattr(request, name) is not None])


def adapted(body: bytes, ways: Ways) -> bytes:
    """`body` in the way that a deployment takes it: the output cap in its field, no `stream_options`."""
    for other in OUTPUT_FIELDS:
        if ways.output_field not in {None, other} and (found := members(body, {other})):
            value = body[found[other].start : found[other].end]
            body = edit(without(body, other), {str(ways.output_field): value})
    return body if ways.stream_options else without(body, "stream_options")


def has_own_data(body: bytes) -> bool:
    """Whether the request names a data source of the attendee's own (Azure OpenAI "on your data").

    Azure passes on what such a source answers as if it were its own answer.
    """
    try:
        return bool(members(body, {"data_sources", "dataSources"}))
    except DuplicateMember:
        return True


def refused_way(error: Mapping[str, Any], ways: Ways) -> Ways | None:
    """What to do differently after a 400 with this `error`; None where that would not help.

    The models' own words: `unsupported_parameter` with the parameter's name, and the two in which versions of
    the API say that they do not know a member. No others: an attendee's mistake teaches nothing.
    """
    param = error.get("param")
    if error.get("code") != "unsupported_parameter":
        unknown = _unknown_member(str(error.get("message")))
        param = unknown[1] or unknown[2] if unknown else None
    if param == "stream_options" and ways.stream_options:
        return ways._replace(stream_options=False)
    if param in OUTPUT_FIELDS and ways.output_field is None:
        other = OUTPUT_FIELDS[param == OUTPUT_FIELDS[0]]
        return ways._replace(output_field=other)
    return None


def _capped(request: ChatRequest, deployment: Deployment, cap: int) -> dict[str, bytes]:
    if request.output_tokens is None:
        return {deployment.output_field: b"%d" % cap}
    asked = {name: getattr(request, name) for name in OUTPUT_FIELDS}
    return {name: b"%d" % cap for name, value in asked.items() if value is not None and value > cap}


def _refuse_duplicates(body: bytes) -> None:
    """A closer look is taken only where a name stands twice, or could be written in escapes."""
    found = _quoted_names(body)
    if len(set(found)) < len(found) or (b"\\" in body and b"\\u00" in body):
        members(body, _POLICY_NAMES)


def _invalid(reason: str) -> InvalidRequest:
    """`Expected `int | null`, got `str` - at `$.max_tokens``, told in the API's own terms."""
    param = reason.partition(" - at `$.")[2].strip("`") or None
    subject = f"'{param}'" if param else "The body"
    if _beyond(reason):
        allowed = f"from 1 to {MAX_CHOICES}" if param == "n" else "at least 1"
        return InvalidRequest(f"{subject} must be {allowed}.", param=param)
    kinds = _mismatch(reason)
    if kinds is None:
        return InvalidRequest(f"{subject} is out of range.", param=param)
    expected, got = (_KINDS.get(kind, kind) for kind in kinds.groups())
    return InvalidRequest(f"{subject} must be {expected}, not {got}.", param=param)
