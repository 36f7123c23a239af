"""What a deployment can be told to do. Each behaviour is one frozen value; those with `then` wrap another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .gates import Gate

Cut = Literal["close", "reset", "clean"]
"""An end that comes too early: a close (FIN), a reset (TCP RST), or an orderly end of the encoding."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A right answer. Without `text` it is made from the prompt; the token counts can be overridden."""

    text: str | None = None
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    report_usage: bool = True  # False: a stream without its usage chunk, a plain answer with "usage": null


@dataclass(frozen=True, slots=True)
class FilteredPrompt:
    """400 `content_filter`: the prompt was refused."""


@dataclass(frozen=True, slots=True)
class FilteredAnswer:
    """200, cut by the filter after so many tokens: `finish_reason` is `content_filter`."""

    after: int = 3


@dataclass(frozen=True, slots=True)
class TooLong:
    """400 `context_length_exceeded`."""

    limit: int = 8192


@dataclass(frozen=True, slots=True)
class RateLimited:
    """429, with those of Azure's headers that are given (none by default), exactly as given."""

    retry_after_ms: float | str | None = None
    retry_after: float | str | None = None
    reset_requests: float | str | None = None
    reset_tokens: float | str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Any status, with Azure's body for it unless another is given."""

    status: int = 500
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResetBeforeHeaders:
    """The connection ends and nothing was said."""

    cut: Literal["close", "reset"] = "reset"


@dataclass(frozen=True, slots=True)
class CutBody:
    """A plain answer: the whole length is promised, half of it is sent."""

    cut: Literal["close", "reset"] = "close"


@dataclass(frozen=True, slots=True)
class CutStream:
    """A stream that ends after so many events, without `[DONE]`."""

    after: int = 3
    cut: Cut = "close"


@dataclass(frozen=True, slots=True)
class StreamError:
    """A stream that after so many events sends `data: {"error": ...}` and ends in good order."""

    after: int = 3
    code: str = "server_error"
    message: str = "The server had an error while processing your request. Sorry about that!"


@dataclass(frozen=True, slots=True)
class Garbage:
    """200 with invalid JSON; or, to a call for a stream, an event stream of nonsense."""


@dataclass(frozen=True, slots=True)
class WrongType:
    """200 `text/html`: a page of somebody in the middle."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Exactly this status, these headers and this body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class RawStream:
    """Exactly these pieces of bytes, each in one HTTP chunk, so many seconds apart."""

    pieces: tuple[bytes, ...]
    delay_seconds: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"content-type": "text/event-stream; charset=utf-8"}
    )
    cut: Cut = "clean"


@dataclass(frozen=True, slots=True)
class RawSocket:
    """These bytes on the socket in place of any HTTP, then the end of the connection."""

    data: bytes = b"not HTTP at all\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Slow:
    """Another behaviour, late: before the status, between pieces, and once after `pause_after` pieces."""

    headers_seconds: float = 0.0
    between_seconds: float = 0.0
    pause_after: int = 0
    pause_seconds: float = 0.0
    then: "Behaviour" = field(default_factory=Answer)


@dataclass(frozen=True, slots=True)
class Gated:
    """Another behaviour, piece by piece, as the gate allows."""

    gate: Gate
    then: "Behaviour" = field(default_factory=Answer)


@dataclass(frozen=True, slots=True)
class EveryOther:
    """The fault on every second call to the deployment, beginning with the second."""

    fault: "Behaviour" = field(default_factory=RateLimited)
    otherwise: "Behaviour" = field(default_factory=Answer)


Behaviour = (
    Answer
    | FilteredPrompt
    | FilteredAnswer
    | TooLong
    | RateLimited
    | Failure
    | ResetBeforeHeaders
    | CutBody
    | CutStream
    | StreamError
    | Garbage
    | WrongType
    | Raw
    | RawStream
    | RawSocket
    | Slow
    | Gated
    | EveryOther
)
