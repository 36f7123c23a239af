"""Chat completions: the checks of a request, and its response, whole or as a stream.

A token here is a word with the space before it, so that a test can count tokens. A prompt costs its words,
4 tokens for each message and 85 for each image.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import azure, body, prose
from .azure import Refused
from .behaviours import Answer, Context
from .journal import Usage
from .wire import Chunk, Response

_Json = dict[str, Any]
_TOKEN = re.compile(r"\s*\S+|\s+")
_TOKENS_PER_MESSAGE, _TOKENS_PER_IMAGE = 4, 85
_CONTEXT_TOKENS = 128_000
_STREAM_OPTIONS_SINCE = "2024-09"
_CAPS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    context: Context
    prompt: str  # the last message of the user
    prompt_tokens: int
    choices: int
    cap: int | None  # the most completion tokens of one choice
    stream: bool
    include_usage: bool
    id: str

    def respond(self, answer: Answer) -> Response:
        words, finish_reason = self._words(answer)
        completion = len(words) * self.choices
        usage = Usage(
            self.prompt_tokens if answer.prompt_tokens is None else answer.prompt_tokens,
            completion if answer.completion_tokens is None else answer.completion_tokens,
        )
        reported = usage if answer.report_usage else None
        headers = azure.model_headers(self.context.deployment)
        if self.stream:
            return azure.stream(tuple(self._events(words, finish_reason, reported)), headers)
        data = azure.compact(self._completion("".join(words), finish_reason, reported))
        return azure.whole(200, Chunk(data, completion, reported), headers=headers)

    def _words(self, answer: Answer) -> tuple[list[str], str]:
        words = _TOKEN.findall(prose.answer(self.prompt) if answer.text is None else answer.text)
        if answer.filtered_after is not None:
            return words[: answer.filtered_after], "content_filter"
        if self.cap is not None and len(words) > self.cap:
            return words[: self.cap], "length"
        return words, "stop"

    def _completion(self, text: str, finish_reason: str, usage: Usage | None) -> _Json:
        message: _Json = {"annotations": [], "content": text, "refusal": None, "role": "assistant"}
        filters = azure.FILTERED if finish_reason == "content_filter" else azure.SAFE
        choices = [_choice(n, {"message": message}, filters, finish_reason) for n in range(self.choices)]
        return {
            "choices": choices,
            **self._signature("chat.completion"),
            "prompt_filter_results": _prompt_filter_results(),
            "usage": usage and _usage(usage),
        }

    def _events(self, words: list[str], finish_reason: str, usage: Usage | None) -> Iterator[Chunk]:
        """The events as Azure sends them: the filter's results, the role, the words, the end, the usage."""
        first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        yield Chunk(azure.event({**first, "prompt_filter_results": _prompt_filter_results()}))
        role = {"content": "", "refusal": None, "role": "assistant"}
        yield from self._for_each_choice(role, {})
        for word in words:
            yield from self._for_each_choice({"content": word}, azure.SAFE, tokens=1)
        filters = azure.FILTERED if finish_reason == "content_filter" else {}
        yield from self._for_each_choice({}, filters, finish_reason)
        if self.include_usage and usage is not None:
            data = {"choices": [], **self._signature("chat.completion.chunk"), "usage": _usage(usage)}
            yield Chunk(azure.event(data), usage=usage)
        yield Chunk(b"data: [DONE]\n\n")

    def _for_each_choice(
        self, delta: _Json, filters: _Json, finish_reason: str | None = None, tokens: int = 0
    ) -> Iterator[Chunk]:
        null = {"usage": None} if self.include_usage else {}
        for index in range(self.choices):
            choice = _choice(index, {"delta": delta}, filters, finish_reason)
            data = {"choices": [choice], **self._signature("chat.completion.chunk"), **null}
            yield Chunk(azure.event(data), tokens)

    def _signature(self, kind: str) -> _Json:
        return {
            "created": self.context.created,
            "id": self.id,
            "model": f"{self.context.deployment}-simulated",
            "object": kind,
            "system_fingerprint": "fp_5154047bf2",
        }


def parse(fields: _Json, context: Context) -> ChatRequest:
    """Raises Refused."""
    messages = _messages(fields)
    stream = body.optional(fields, "stream", bool) or False
    options = _stream_options(fields, stream, context.api_version)
    prompt_tokens = sum(map(_cost, messages))
    if prompt_tokens > _CONTEXT_TOKENS:
        raise Refused(azure.too_long(_CONTEXT_TOKENS, prompt_tokens))
    material = context.salt + repr([_texts(message) for message in messages]).encode()
    return ChatRequest(
        context=context,
        prompt=_prompt(messages),
        prompt_tokens=prompt_tokens,
        choices=body.positive(fields, "n", most=128) or 1,
        cap=_cap(fields, context),
        stream=stream,
        include_usage=body.optional(options, "include_usage", bool) or False,
        id=f"chatcmpl-{hashlib.sha256(material).hexdigest()[:29]}",
    )


def _messages(fields: _Json) -> list[_Json]:
    messages: list[_Json] | None = body.optional(fields, "messages", list)
    if messages is None:
        message = "Missing required parameter: 'messages'."
        raise Refused(azure.invalid_request(message, "messages", "missing_required_parameter"))
    if not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise Refused(azure.invalid_request(message, "messages", "empty_array"))
    return [body.check_type(each, f"messages[{index}]", dict) for index, each in enumerate(messages)]


def _cap(fields: _Json, context: Context) -> int | None:
    caps = {param: cap for param in _CAPS if (cap := body.positive(fields, param)) is not None}
    if len(caps) > 1:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise Refused(azure.invalid_request(message, None, "invalid_parameter_combination"))
    for param in caps:
        if context.settings.refuses(param, context.deployment):
            (instead,) = set(_CAPS) - {param}
            message = f"'{param}' is not supported with this model. Use '{instead}' instead."
            message = f"Unsupported parameter: {message}"
            raise Refused(azure.invalid_request(message, param, "unsupported_parameter"))
    return next(iter(caps.values()), None)


def _stream_options(fields: _Json, stream: bool, api_version: str) -> _Json:
    options: _Json | None = body.optional(fields, "stream_options", dict)
    if options is None:
        return {}
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(azure.invalid_request(message, "stream_options"))
    if api_version and api_version < _STREAM_OPTIONS_SINCE:
        raise Refused(azure.invalid_request("Unrecognized request argument supplied: stream_options"))
    return options


def _parts(message: _Json) -> list[_Json]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return [part for part in parts if isinstance(part, dict)]


def _texts(message: _Json) -> list[str]:
    return [part["text"] for part in _parts(message) if isinstance(part.get("text"), str)]


def _cost(message: _Json) -> int:
    images = [part for part in _parts(message) if part.get("type") == "image_url"]
    words = sum(len(_TOKEN.findall(text)) for text in _texts(message))
    return _TOKENS_PER_MESSAGE + words + _TOKENS_PER_IMAGE * len(images)


def _prompt(messages: list[_Json]) -> str:
    texts = [" ".join(_texts(message)) for message in messages if message.get("role") == "user"]
    return texts[-1] if texts else ""


def _choice(index: int, part: _Json, filters: _Json, finish_reason: str | None) -> _Json:
    more = {"finish_reason": finish_reason, "index": index, "logprobs": None}
    return {"content_filter_results": filters, **part, **more}


def _prompt_filter_results() -> list[_Json]:
    results = {**azure.SAFE, "jailbreak": {"detected": False, "filtered": False}}
    return [{"prompt_index": 0, "content_filter_results": results}]


def _usage(usage: Usage) -> _Json:
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
