"""Chat completions: the checks of a request, and its response, whole or as a stream.

A token here is a word with the space before it, so that a test can count tokens. A prompt costs its words,
4 tokens for each message and 85 for each image. A deployment with `billed_as` costs what the model costs.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from . import azure, billing, body, messages, model
from .azure import Refused
from .behaviours import Answer, ApiRequest, Context
from .journal import Usage
from .model import Task, Written
from .wire import Chunk, Response

_Json = dict[str, Any]
_CONTEXT_TOKENS = 128_000
_STREAM_OPTIONS_SINCE = "2024-09"
_CAPS = ("max_tokens", "max_completion_tokens")
_RENDERED = ("tools", "functions", "response_format")


@dataclass(frozen=True, slots=True)
class ChatRequest(ApiRequest):
    context: Context
    task: Task
    prompt: str  # the last message of the user
    prompt_tokens: int
    choices: int
    cap: int | None  # the most completion tokens of one choice
    stream: bool
    include_usage: bool
    id: str

    def respond(self, answer: Answer) -> Response:
        reasoning = min(answer.reasoning_tokens, self.cap or answer.reasoning_tokens)
        written = model.write(self.task, answer, None if self.cap is None else self.cap - reasoning)
        visible = len(written.pieces) * self.choices
        work = Usage(self.prompt_tokens, reasoning * self.choices, answer.cached_tokens)
        billed = replace(work, completion_tokens=work.completion_tokens + visible)
        reported = answer.reported(billed)
        parts = (written, reported, work.completion_tokens)
        if self.stream:
            return self.streamed(self._events(*parts), work)
        return self.whole(self._completion(*parts), billed, reported, visible)

    def _completion(self, written: Written, usage: Usage | None, reasoning: int) -> _Json:
        message: _Json = {"annotations": [], "content": written.text, "refusal": None, "role": "assistant"}
        end = _finish_reason(written)
        filters = azure.FILTERED if end == "content_filter" else azure.SAFE
        choices = []
        for n in range(self.choices):
            if written.function:
                message = {
                    **message,
                    "content": None,
                    "tool_calls": [self._call(written.function, n, written.text)],
                }
            choices.append(_choice(n, {"message": message}, filters, end))
        return {
            "choices": choices,
            **self._signature("chat.completion"),
            "prompt_filter_results": _prompt_filter_results(),
            "usage": usage and _usage(usage, reasoning),
        }

    def _events(self, written: Written, usage: Usage | None, reasoning: int) -> Iterator[Chunk]:
        """The events as Azure sends them: the filter's results, the role, the words, the end, the usage."""
        first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        yield Chunk(azure.event({**first, "prompt_filter_results": _prompt_filter_results()}))
        yield from self._for_each_choice(self._roles(written.function), {})
        left = 0
        for piece, tokens in written.shown():
            if not piece:
                left = tokens
                continue
            delta: _Json = {"content": piece}
            if written.function:
                delta = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            yield from self._for_each_choice([delta] * self.choices, azure.SAFE, tokens=tokens)
        end = _finish_reason(written)
        filters = azure.FILTERED if end == "content_filter" else {}
        yield from self._for_each_choice([{}] * self.choices, filters, end, tokens=left)
        if self.include_usage and usage is not None:
            data = {
                "choices": [],
                **self._signature("chat.completion.chunk"),
                "usage": _usage(usage, reasoning),
            }
            yield Chunk(azure.event(data), usage=usage)
        yield Chunk(b"data: [DONE]\n\n")

    def _roles(self, function: str | None) -> list[_Json]:
        """The first delta of each choice."""
        role: _Json = {"content": "", "refusal": None, "role": "assistant"}
        if function is None:
            return [role] * self.choices
        calls = [{"index": 0, **self._call(function, index)} for index in range(self.choices)]
        return [{**role, "content": None, "tool_calls": [call]} for call in calls]

    def _for_each_choice(
        self, deltas: list[_Json], filters: _Json, finish_reason: str | None = None, tokens: int = 0
    ) -> Iterator[Chunk]:
        null = {"usage": None} if self.include_usage else {}
        for index, delta in enumerate(deltas):
            choice = _choice(index, {"delta": delta}, filters, finish_reason)
            data = {"choices": [choice], **self._signature("chat.completion.chunk"), **null}
            yield Chunk(azure.event(data), tokens)

    def _call(self, function: str, index: int, arguments: str = "") -> _Json:
        digest = hashlib.sha256(f"{self.id} {index}".encode()).hexdigest()
        function_ = {"arguments": arguments, "name": function}
        return {"function": function_, "id": f"call_{digest[:24]}", "type": "function"}

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
    said = _messages(fields)
    stream = body.optional(fields, "stream", bool) or False
    options = _stream_options(fields, stream, context.api_version)
    model_name = context.settings.billed_as
    cost = billing.prompt(said, [fields.get(name) for name in _RENDERED], model_name)
    if cost.context > _CONTEXT_TOKENS:
        raise Refused(azure.too_long(_CONTEXT_TOKENS, cost.context))
    material = context.salt + repr([messages.texts(message) for message in said]).encode()
    return ChatRequest(
        context=context,
        task=Task(fields, said, _format(fields), model_name is not None),
        prompt=messages.prompt(said),
        prompt_tokens=cost.billed,
        choices=body.positive(fields, "n", most=128) or 1,
        cap=_cap(fields, context),
        stream=stream,
        include_usage=body.optional(options, "include_usage", bool) or False,
        id=f"chatcmpl-{hashlib.sha256(material).hexdigest()[:29]}",
    )


def _messages(fields: _Json) -> list[_Json]:
    given: list[_Json] | None = body.optional(fields, "messages", list)
    if given is None:
        raise body.missing("messages")
    if not given:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise Refused(azure.invalid_request(message, "messages", "empty_array"))
    return [body.check_type(each, f"messages[{index}]", dict) for index, each in enumerate(given)]


def _format(fields: _Json) -> _Json:
    """`response_format` as Responses has it, where `schema` stands beside `type`."""
    form: _Json = body.optional(fields, "response_format", dict) or {}
    inner = form.get("json_schema")
    return {"type": form.get("type"), **(inner if isinstance(inner, dict) else {})}


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


def _finish_reason(written: Written) -> str:
    return "tool_calls" if written.function and written.end == "stop" else written.end


def _choice(index: int, part: _Json, filters: _Json, finish_reason: str | None) -> _Json:
    more = {"finish_reason": finish_reason, "index": index, "logprobs": None}
    return {"content_filter_results": filters, **part, **more}


def _prompt_filter_results() -> list[_Json]:
    results = {**azure.SAFE, "jailbreak": azure.NO_JAILBREAK}
    return [{"prompt_index": 0, "content_filter_results": results}]


def _usage(usage: Usage, reasoning_tokens: int) -> _Json:
    return {
        "completion_tokens": usage.completion_tokens,
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": 0,
            "reasoning_tokens": reasoning_tokens,
            "rejected_prediction_tokens": 0,
        },
        "prompt_tokens": usage.prompt_tokens,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": usage.cached_tokens},
        "total_tokens": usage.total,
    }
