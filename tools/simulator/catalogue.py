"""Behaviours by name: for deployments `sim-NAME`, messages with `sim:NAME`, and `POST /_behave`."""

import re

from .behaviours import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    EveryOther,
    Failure,
    FilteredAnswer,
    FilteredPrompt,
    Garbage,
    RateLimited,
    RawSocket,
    ResetBeforeHeaders,
    Slow,
    StreamError,
    TooLong,
    WrongType,
)

NAMED: dict[str, tuple[Behaviour, str]] = {
    "answer": (Answer(), "a right answer"),
    "429": (
        RateLimited(retry_after_ms=2000, retry_after=2),
        "rate limited for two seconds, told in both headers",
    ),
    "429-seconds": (RateLimited(retry_after=3), "rate limited, retry-after alone"),
    "429-reset": (RateLimited(reset_requests=3, reset_tokens=3), "rate limited, x-ratelimit-reset-* alone"),
    "429-bare": (RateLimited(), "rate limited, no header says for how long"),
    "429-half": (EveryOther(RateLimited(retry_after_ms=500)), "rate limited on every second call"),
    "content-filter": (FilteredPrompt(), "the prompt is refused by the content filter"),
    "filtered-answer": (FilteredAnswer(after=8), "the answer is cut by the content filter"),
    "context-length": (TooLong(), "the prompt is too long for the model"),
    "slow": (Slow(headers_seconds=2, between_seconds=0.5), "two seconds to begin, then two tokens a second"),
    "pause": (Slow(pause_after=8, pause_seconds=15), "fifteen seconds of silence in the middle of a stream"),
    "hang": (Slow(headers_seconds=3600), "no answer for an hour"),
    "reset": (ResetBeforeHeaders(), "the connection is reset before a word"),
    "half": (CutBody(), "half of the promised body, then the end of the connection"),
    "cut": (CutStream(after=8), "a stream that breaks off"),
    "cut-reset": (CutStream(after=8, cut="reset"), "a stream that breaks off with a reset"),
    "cut-clean": (CutStream(after=8, cut="clean"), "a stream that ends in good order, too early"),
    "stream-error": (StreamError(after=8), "an error event in the middle of a stream"),
    "garbage": (Garbage(), "200, and nonsense"),
    "html": (WrongType(), "200, and a page of somebody in the middle"),
    "not-http": (RawSocket(), "something that is not HTTP"),
}

_STATUS = re.compile(r"[45]\d\d", re.ASCII)
_ORDER = re.compile(r"\bsim:([a-z0-9-]+)", re.IGNORECASE)
_PREFIX = "sim-"


def find(name: str) -> Behaviour | None:
    """By its name in the catalogue, or any status from 400 to 599."""
    if name in NAMED:
        return NAMED[name][0]
    return Failure(int(name)) if _STATUS.fullmatch(name) else None


def by_deployment(name: str) -> Behaviour | None:
    return find(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None


def by_message(prompt: str) -> Behaviour | None:
    """For a message such as `please sim:cut this`. To an unknown name, an answer that lists the known."""
    found = _ORDER.search(prompt)
    if found is None:
        return None
    name = found[1].lower()
    return find(name) or Answer(text=f"I do not know sim:{name}. After sim: I know\n{help_text()}")


def help_text() -> str:
    lines = [f"  {name:<16} {meaning}" for name, (_, meaning) in NAMED.items()]
    return "\n".join([*lines, f"  {'400 ... 599':<16} that status"])
