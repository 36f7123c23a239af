"""From a behaviour and a question to a plan: every misbehaviour is decided here, and done in wire.py."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from . import answers, prose, refusals
from .answers import Choice
from .behaviours import (
    Answer,
    Behaviour,
    Cut,
    CutBody,
    CutStream,
    EveryOther,
    Failure,
    FilteredAnswer,
    FilteredPrompt,
    Garbage,
    Gated,
    RateLimited,
    Raw,
    RawSocket,
    RawStream,
    ResetBeforeHeaders,
    Slow,
    StreamError,
    TooLong,
    WrongType,
)
from .plans import Headers, Piece, Plan, Usage, event, whole
from .question import Question
from .stamps import Stamp

_HTML = b"<!doctype html><html><title>Sign in</title><body>Please sign in to the network.</body></html>"


@dataclass(frozen=True, slots=True)
class Scene:
    asked: Question
    stamp: Stamp
    turn: int  # how many calls the deployment has had, this one included


def plan(behaviour: Behaviour, scene: Scene) -> Plan:  # noqa: PLR0911, PLR0912 one line for each behaviour
    match behaviour:
        case Answer():
            return _answer(behaviour, scene)
        case FilteredAnswer():
            return _filtered_answer(behaviour, scene)
        case FilteredPrompt():
            return refusals.filtered_prompt()
        case TooLong():
            return refusals.too_long(behaviour.limit, max(scene.asked.prompt_tokens, behaviour.limit + 1))
        case RateLimited():
            return refusals.rate_limited(_retry_headers(behaviour))
        case Failure():
            return _failure(behaviour)
        case ResetBeforeHeaders():
            return Plan(None, ending=behaviour.cut)
        case CutBody() | CutStream():
            return _cut(behaviour, scene)
        case StreamError():
            return _stream_error(behaviour, scene)
        case Garbage():
            return _garbage(scene)
        case WrongType():
            return whole(200, _HTML, "text/html; charset=utf-8")
        case Raw() | RawStream() | RawSocket():
            return _raw(behaviour)
        case Slow() | Gated() | EveryOther():
            return _wrapped(behaviour, scene)
        case _:
            assert_never(behaviour)


def paced(ready: Plan, tokens_per_second: float) -> Plan:
    """The plan at the pace of a model that speaks so many tokens a second (0: at full speed)."""
    spoken = sum(piece.tokens for piece in ready.pieces)
    if not spoken or not tokens_per_second:
        return ready
    if ready.length is None:
        return replace(ready, between_seconds=ready.between_seconds or 1 / tokens_per_second)
    return replace(ready, headers_seconds=ready.headers_seconds + spoken / tokens_per_second)


def _wrapped(behaviour: Slow | Gated | EveryOther, scene: Scene) -> Plan:
    match behaviour:
        case EveryOther():
            return plan(behaviour.otherwise if scene.turn % 2 else behaviour.fault, scene)
        case Gated():
            return replace(plan(behaviour.then, scene), gate=behaviour.gate)
        case Slow():
            return replace(
                plan(behaviour.then, scene),
                headers_seconds=behaviour.headers_seconds,
                between_seconds=behaviour.between_seconds,
                pause_after=behaviour.pause_after,
                pause_seconds=behaviour.pause_seconds,
            )


def _answer(behaviour: Answer, scene: Scene) -> Plan:
    asked = scene.asked
    texts = [
        prose.answer(asked.prompt, variant) if behaviour.text is None else behaviour.text
        for variant in range(asked.choices)
    ]
    choices = tuple(answers.choice(text, asked.cap, behaviour.finish_reason) for text in texts)
    prompt, completion = behaviour.prompt_tokens, behaviour.completion_tokens
    usage = Usage(
        asked.prompt_tokens if prompt is None else prompt,
        _spoken(choices) if completion is None else completion,
    )
    return _delivered(scene, choices, usage, behaviour.report_usage)


def _filtered_answer(behaviour: FilteredAnswer, scene: Scene) -> Plan:
    spoken = answers.choice(prose.answer(scene.asked.prompt), scene.asked.cap)
    choices = (Choice(spoken.tokens[: behaviour.after], "content_filter"),)
    return _delivered(scene, choices, Usage(scene.asked.prompt_tokens, _spoken(choices)), True)


def _delivered(scene: Scene, choices: tuple[Choice, ...], usage: Usage, report: bool) -> Plan:
    if scene.asked.stream:
        return answers.stream(scene.stamp, choices, usage if report else None, scene.asked)
    return answers.plain(scene.stamp, choices, usage, report=report)


def _spoken(choices: tuple[Choice, ...]) -> int:
    return sum(len(each.tokens) for each in choices)


def _cut(behaviour: CutBody | CutStream, scene: Scene) -> Plan:
    """To a stream half a body means half the events; to a plain answer any cut is half of the body."""
    right = _answer(Answer(), scene)
    if right.length is None:
        after = behaviour.after if isinstance(behaviour, CutStream) else len(right.pieces) // 2
        return replace(right, pieces=_first(right, after), ending=behaviour.cut)
    ending: Cut = "close" if behaviour.cut == "clean" else behaviour.cut
    half = Piece(right.pieces[0].data[: right.length // 2])
    return replace(right, pieces=(half,), ending=ending)


def _stream_error(behaviour: StreamError, scene: Scene) -> Plan:
    right = _answer(Answer(), scene)
    if right.length is not None:
        return refusals.failure(500)
    error = {"message": behaviour.message, "type": "server_error", "param": None, "code": behaviour.code}
    return replace(right, pieces=(*_first(right, behaviour.after), Piece(event({"error": error}))))


def _first(right: Plan, count: int) -> tuple[Piece, ...]:
    """So many events, and never `[DONE]`."""
    return right.pieces[: min(count, len(right.pieces) - 1)]


def _garbage(scene: Scene) -> Plan:
    if not scene.asked.stream:
        return whole(200, b'{"choices":[{"message":{"content":"half a')
    nonsense = (b"data: {not json\n\n", b"\x00\xff\xfe\n\n", b"event: what\ndata: 42\n\n", b": no end")
    return Plan(200, (("content-type", answers.STREAM_TYPE),), tuple(map(Piece, nonsense)))


def _failure(behaviour: Failure) -> Plan:
    if behaviour.body is None:
        usual = refusals.failure(behaviour.status)
        return replace(usual, headers=_merged(usual.headers, behaviour.headers))
    headers = _merged((("content-type", "application/json"),), behaviour.headers)
    return Plan(behaviour.status, headers, (Piece(behaviour.body),), length=len(behaviour.body))


def _merged(headers: Headers, over: Mapping[str, str]) -> Headers:
    named = {name.lower() for name in over}
    return (*(pair for pair in headers if pair[0] not in named), *over.items())


def _retry_headers(behaviour: RateLimited) -> Headers:
    headers = {
        "retry-after-ms": behaviour.retry_after_ms,
        "retry-after": behaviour.retry_after,
        "x-ratelimit-reset-requests": behaviour.reset_requests,
        "x-ratelimit-reset-tokens": behaviour.reset_tokens,
    }
    return tuple((name, str(value)) for name, value in headers.items() if value is not None)


def _raw(behaviour: Raw | RawStream | RawSocket) -> Plan:
    match behaviour:
        case RawSocket():
            return Plan(None, pieces=(Piece(behaviour.data),), ending="close")
        case Raw():
            headers, body = tuple(behaviour.headers.items()), behaviour.body
            return Plan(behaviour.status, headers, (Piece(body),), length=len(body), azure_headers=False)
        case RawStream():
            return Plan(
                behaviour.status,
                tuple(behaviour.headers.items()),
                tuple(map(Piece, behaviour.pieces)),
                ending=behaviour.cut,
                azure_headers=False,
                between_seconds=behaviour.delay_seconds,
            )
