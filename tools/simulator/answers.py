"""Right answers in Azure's exact shape, whole or as the events of a stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .plans import Piece, Plan, Usage, compact, event, whole
from .question import Question, tokens
from .stamps import Stamp

STREAM_TYPE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Choice:
    tokens: tuple[str, ...]
    finish_reason: str


def choice(text: str, cap: int | None, finish_reason: str = "stop") -> Choice:
    """The text as one choice, cut at the cap."""
    words = tuple(tokens(text))
    if cap is not None and len(words) > cap:
        return Choice(words[:cap], "length")
    return Choice(words, finish_reason)


def plain(stamp: Stamp, choices: tuple[Choice, ...], usage: Usage, *, report: bool = True) -> Plan:
    body = {
        "choices": [_whole_choice(index, each) for index, each in enumerate(choices)],
        "created": stamp.created,
        "id": stamp.id,
        "model": stamp.model,
        "object": "chat.completion",
        "prompt_filter_results": _prompt_filter_results(),
        "system_fingerprint": stamp.fingerprint,
        "usage": _usage(usage) if report else None,
    }
    data = compact(body)
    spoken = sum(len(each.tokens) for each in choices)
    piece = Piece(data, tokens=spoken, usage=usage if report else None)
    return Plan(200, (("content-type", "application/json"),), (piece,), length=len(data))


def stream(stamp: Stamp, choices: tuple[Choice, ...], usage: Usage | None, asked: Question) -> Plan:
    """The events as Azure sends them. `usage` None: the usage chunk stays out even where it was asked for."""
    pieces = [Piece(event(_prompt_chunk())), *_spoken(stamp, choices, asked.include_usage)]
    if asked.include_usage and usage is not None:
        pieces.append(Piece(event(_chunk(stamp, [], usage=_usage(usage))), usage=usage))
    return Plan(200, (("content-type", STREAM_TYPE),), (*pieces, Piece(DONE)))


def page(body: bytes) -> Plan:
    return whole(200, body, "text/html; charset=utf-8")


def _spoken(stamp: Stamp, choices: tuple[Choice, ...], with_usage: bool) -> Iterator[Piece]:
    null = {"usage": None} if with_usage else {}
    opening = {"content": "", "refusal": None, "role": "assistant"}
    for index in range(len(choices)):
        yield Piece(event(_chunk(stamp, [_delta(index, opening)], **null)))
    for turn in range(max((len(each.tokens) for each in choices), default=0)):
        for index, each in enumerate(choices):
            if turn < len(each.tokens):
                delta = _delta(index, {"content": each.tokens[turn]}, filters=safe())
                yield Piece(event(_chunk(stamp, [delta], **null)), tokens=1)
    for index, each in enumerate(choices):
        filters = _filtered() if each.finish_reason == "content_filter" else {}
        yield Piece(event(_chunk(stamp, [_delta(index, {}, each.finish_reason, filters)], **null)))


def _chunk(stamp: Stamp, choices: list[dict[str, Any]], **usage: Any) -> dict[str, Any]:
    return {
        "choices": choices,
        "created": stamp.created,
        "id": stamp.id,
        "model": stamp.model,
        "object": "chat.completion.chunk",
        "system_fingerprint": stamp.fingerprint,
        **usage,
    }


def _delta(
    index: int, delta: dict[str, Any], finish_reason: str | None = None, filters: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "content_filter_results": filters or {},
        "delta": delta,
        "finish_reason": finish_reason,
        "index": index,
        "logprobs": None,
    }


def _whole_choice(index: int, each: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "annotations": [],
        "content": "".join(each.tokens),
        "refusal": None,
        "role": "assistant",
    }
    return {
        "content_filter_results": _filtered() if each.finish_reason == "content_filter" else safe(),
        "finish_reason": each.finish_reason,
        "index": index,
        "logprobs": None,
        "message": message,
    }


def _prompt_chunk() -> dict[str, Any]:
    return {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": _prompt_filter_results(),
    }


def safe() -> dict[str, Any]:
    verdict = {"filtered": False, "severity": "safe"}
    return {"hate": verdict, "self_harm": verdict, "sexual": verdict, "violence": verdict}


def _filtered() -> dict[str, Any]:
    return {**safe(), "violence": {"filtered": True, "severity": "medium"}}


def _prompt_filter_results() -> list[dict[str, Any]]:
    results = {**safe(), "jailbreak": {"detected": False, "filtered": False}}
    return [{"prompt_index": 0, "content_filter_results": dict(sorted(results.items()))}]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "completion_tokens": usage.completion_tokens,
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": 0,
            "reasoning_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "prompt_tokens": usage.prompt_tokens,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
