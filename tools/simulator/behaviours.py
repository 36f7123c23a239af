"""The behaviours that a test can choose for a deployment. Each is a frozen value that makes its response."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from . import azure
from .gateway import Deployment
from .journal import Usage
from .turns import Turns
from .wire import Chunk, Ending, Gate, Response

_HTML = b"<!doctype html><html><title>Sign in</title><body>Please sign in to the network.</body></html>"


@dataclass(frozen=True, slots=True)
class Context:
    """What an API needs to know about a request besides its body."""

    deployment: str
    settings: Deployment
    api_version: str  # empty on the v1 form
    created: int
    salt: bytes  # goes into the response's id
    turns: Turns  # the stored responses


class ApiRequest(ABC):
    """A request that passed the checks of its API. Without an override, its errors are those of chat."""

    __slots__ = ()
    context: Context
    prompt: str
    stream: bool

    @abstractmethod
    def respond(self, answer: "Answer") -> Response: ...

    def filtered_prompt(self) -> Response:
        return azure.filtered_prompt()

    def too_long(self) -> Response:
        return azure.too_long(8192, 8193)

    def error_event(self, error: "StreamError", _number: int, _billed: Usage) -> Chunk:
        body = {"message": error.message, "type": "server_error", "param": None, "code": error.code}
        return Chunk(azure.event({"error": body}))

    def whole(self, data: Any, work: Usage, reported: Usage | None, tokens: int = 0) -> Response:
        headers = azure.model_headers(self.context.deployment)
        return azure.whole(200, Chunk(azure.compact(data), tokens, reported), headers=headers, work=work)

    def streamed(self, chunks: Iterable[Chunk], work: Usage) -> Response:
        """`work` is what is billed before the first chunk."""
        return azure.stream(tuple(chunks), azure.model_headers(self.context.deployment), work)


class Behaviour(Protocol):
    def respond(self, request: ApiRequest) -> Response: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response. Without `text` it is about the prompt; without token counts they are counted."""

    text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    report_usage: bool = True  # False: a stream without its usage event, a whole body with "usage": null
    filtered_after: int | None = None  # the content filter cuts the text after so many tokens
    reasoning_tokens: int = 0  # billed, and produced before the first visible byte
    cached_tokens: int = 0  # of the prompt

    def respond(self, request: ApiRequest) -> Response:
        return request.respond(self)

    def reported(self, billed: Usage) -> Usage | None:
        if not self.report_usage:
            return None
        prompt, completion = self.prompt_tokens, self.completion_tokens
        return Usage(
            billed.prompt_tokens if prompt is None else prompt,
            billed.completion_tokens if completion is None else completion,
            billed.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class FilteredPrompt:
    """400 `content_filter`: the prompt is refused."""

    def respond(self, request: ApiRequest) -> Response:
        return request.filtered_prompt()


@dataclass(frozen=True, slots=True)
class TooLong:
    """400 `context_length_exceeded`."""

    def respond(self, request: ApiRequest) -> Response:
        return request.too_long()


@dataclass(frozen=True, slots=True)
class RateLimited:
    """429 with those of Azure's headers that are given, exactly as given."""

    retry_after_ms: float | str | None = None
    retry_after: float | str | None = None
    reset_requests: float | str | None = None
    reset_tokens: float | str | None = None

    def respond(self, _: ApiRequest) -> Response:
        headers = {
            "retry-after-ms": self.retry_after_ms,
            "retry-after": self.retry_after,
            "x-ratelimit-reset-requests": self.reset_requests,
            "x-ratelimit-reset-tokens": self.reset_tokens,
        }
        given = tuple((name, str(value)) for name, value in headers.items() if value is not None)
        return azure.error(429, given)


@dataclass(frozen=True, slots=True)
class Failure:
    """Any status, with Azure's body for it unless another is given."""

    status: int = 500
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def respond(self, _: ApiRequest) -> Response:
        usual = azure.error(self.status) if self.body is None else azure.whole(self.status, Chunk(self.body))
        return replace(usual, headers=(*usual.headers, *self.headers.items()))


@dataclass(frozen=True, slots=True)
class ResetBeforeHeaders:
    """The connection ends before the response begins."""

    cut: Literal["close", "reset"] = "reset"

    def respond(self, _: ApiRequest) -> Response:
        return Response(None, ending=self.cut)


@dataclass(frozen=True, slots=True)
class CutBody:
    """The whole length is promised, half of it is sent; of a stream, half of the events."""

    cut: Literal["close", "reset"] = "close"

    def respond(self, request: ApiRequest) -> Response:
        whole = request.respond(Answer())
        return _cut(whole, len(whole.chunks) // 2, self.cut)


@dataclass(frozen=True, slots=True)
class CutStream:
    """A stream that ends after so many events, without `[DONE]`. A whole body is cut in half."""

    after: int = 3
    cut: Ending = "close"

    def respond(self, request: ApiRequest) -> Response:
        return _cut(request.respond(Answer()), self.after, self.cut)


@dataclass(frozen=True, slots=True)
class StreamError:
    """A stream that sends an error event after so many events and ends in good order.

    `failed`: Responses has two such events; this one is `response.failed`, with usage if `report_usage`.
    """

    after: int = 3
    message: str = "The server had an error while processing your request. Sorry about that!"
    code: str = "server_error"
    failed: bool = False
    report_usage: bool = True

    def respond(self, request: ApiRequest) -> Response:
        if not request.stream:
            return azure.error(500)
        whole = request.respond(Answer())
        sent = whole.chunks[: self.after]
        written = whole.work.completion_tokens + sum(chunk.tokens for chunk in sent)
        billed = replace(whole.work, completion_tokens=written)
        return replace(whole, chunks=(*sent, request.error_event(self, len(sent), billed)))


@dataclass(frozen=True, slots=True)
class Garbage:
    """200 with invalid JSON; if a stream was requested, invalid events."""

    def respond(self, request: ApiRequest) -> Response:
        if not request.stream:
            return azure.whole(200, Chunk(b'{"choices":[{"message":{"content":"half a'))
        events = (b"data: {not json\n\n", b"\x00\xff\xfe\n\n", b"event: what\ndata: 42\n\n", b": no end")
        return azure.stream(tuple(map(Chunk, events)))


@dataclass(frozen=True, slots=True)
class WrongType:
    """200 `text/html`: the page of a captive network."""

    def respond(self, _: ApiRequest) -> Response:
        return azure.whole(200, Chunk(_HTML), "text/html; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Raw:
    """Exactly this status, these headers and this body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b""

    def respond(self, _: ApiRequest) -> Response:
        return Response(self.status, tuple(self.headers.items()), (Chunk(self.body),), length=len(self.body))


@dataclass(frozen=True, slots=True)
class RawStream:
    """Exactly these pieces of bytes, each in an HTTP chunk of its own."""

    pieces: tuple[bytes, ...]
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": azure.STREAM})
    cut: Ending = "clean"

    def respond(self, _: ApiRequest) -> Response:
        return Response(200, tuple(self.headers.items()), tuple(map(Chunk, self.pieces)), ending=self.cut)


@dataclass(frozen=True, slots=True)
class RawSocket:
    """These bytes on the socket without any HTTP, then the end of the connection."""

    data: bytes = b"not HTTP at all\r\n\r\n"

    def respond(self, _: ApiRequest) -> Response:
        return Response(None, chunks=(Chunk(self.data),), ending="close")


@dataclass(frozen=True, slots=True)
class Slow:
    """A successful response that waits before its status, and between the events of a stream."""

    headers_seconds: float = 0.0
    between_seconds: float = 0.0

    def respond(self, request: ApiRequest) -> Response:
        usual = request.respond(Answer())
        return replace(usual, headers_seconds=self.headers_seconds, between_seconds=self.between_seconds)


@dataclass(frozen=True, slots=True)
class Gated:
    """Another behaviour, chunk by chunk as the gate allows."""

    gate: Gate
    then: Behaviour

    def respond(self, request: ApiRequest) -> Response:
        return replace(self.then.respond(request), gate=self.gate)


@dataclass(frozen=True, slots=True)
class EveryOther:
    """The fault on every second call to a deployment, beginning with the second; orders.py counts them."""

    fault: Behaviour

    def respond(self, request: ApiRequest) -> Response:
        return self.fault.respond(request)


def _cut(whole: Response, after: int, ending: Ending) -> Response:
    if whole.length is None:
        return replace(whole, chunks=whole.chunks[: min(after, len(whole.chunks) - 1)], ending=ending)
    half = Chunk(whole.chunks[0].data[: whole.length // 2])
    return replace(whole, chunks=(half,), ending="close" if ending == "clean" else ending)
