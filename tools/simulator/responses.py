"""Responses: the checks of a request, and its response, whole or as a stream (response_events.py).

Tokens are counted as in chat. A reasoning model thinks 64 tokens, unless `reasoning.effort` is none or
minimal. `background` is accepted, but the response is complete at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from . import azure, billing, body, hosted, items, messages, model, response_events
from .azure import Refused
from .behaviours import Answer, ApiRequest, Context, StreamError
from .journal import Usage
from .model import Task, Written
from .turns import Turn, new_id
from .wire import Chunk, Response

_Json = dict[str, Any]
_CONTEXT_TOKENS = 128_000
_REASONING_TOKENS, _NO_REASONING = 64, ("none", "minimal")
_LEAST_CAP = 16
_MOVED = {"max_tokens": "max_output_tokens", "messages": "input", "response_format": "text.format"}
_NULL = "instructions max_output_tokens max_tool_calls previous_response_id prompt_cache_key"
_NULL += " prompt_cache_retention safety_identifier user"
_DEFAULTS: _Json = {
    **dict.fromkeys(_NULL.split()),
    **{"background": False, "parallel_tool_calls": True, "store": True, "truncation": "disabled"},
    **{
        "temperature": 1.0,
        "top_logprobs": 0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
    },
    **{"reasoning": {"effort": None, "summary": None}, "service_tier": "auto"},
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
}
"""The parameters that the response repeats."""
_PARAMETERS = {
    *_DEFAULTS,
    "client_metadata",
    "context_management",
    "conversation",
    "include",
    "input",
    "model",
}
_PARAMETERS |= {"prompt", "stream", "stream_options"}


@dataclass(frozen=True, slots=True)
class ResponsesRequest(ApiRequest):
    context: Context
    fields: _Json
    task: Task
    input: tuple[_Json, ...]  # the items of this turn and of all before it
    prompt: str
    prompt_tokens: int
    cap: int | None
    stream: bool
    id: str  # without its kind

    def respond(self, answer: Answer) -> Response:
        reasoning = answer.reasoning_tokens or self._reasoning_tokens()
        reasoning = min(reasoning, self.cap or reasoning)
        written = model.write(self.task, answer, None if self.cap is None else self.cap - reasoning)
        tools = hosted.items(self.fields, self.prompt, self._item_id)
        prompt_tokens = self.prompt_tokens + hosted.INPUT_TOKENS * len(tools)
        work = Usage(prompt_tokens, reasoning + hosted.OUTPUT_TOKENS * len(tools), answer.cached_tokens)
        billed = replace(work, completion_tokens=work.completion_tokens + len(written.pieces))
        reported = answer.reported(billed)
        output = [*self._reasoning(reasoning), *tools, *self._visible(written)]
        response = self._response(output, written.end, _usage(reported, reasoning))
        if response["store"]:
            self.context.turns.keep(Turn(self.context.deployment, response, self.input))
        if self.stream:
            events = response_events.stream(self._opening(), response, written, reported)
            return self.streamed(events, work)
        return self.whole(response, billed, reported, len(written.pieces))

    def filtered_prompt(self) -> Response:
        error: _Json = {"message": azure.CONTENT_FILTER, "type": "invalid_request_error", "param": "prompt"}
        error |= {"code": "content_filter", "content_filters": [_content_filter("prompt", blocked=True)]}
        return azure.whole(400, Chunk(azure.compact({"error": error})))

    def too_long(self) -> Response:
        message = (
            "Your input exceeds the context window of this model. Please adjust your input and try again."
        )
        return azure.invalid_request(message, "input", "context_length_exceeded")

    def error_event(self, error: StreamError, number: int, billed: Usage) -> Chunk:
        """OpenAI's documents show the members of `error` without it; on the wire they are in it."""
        if not error.failed:
            body = {"type": "server_error", "code": error.code, "message": error.message, "param": None}
            return Chunk(azure.typed_event({"type": "error", "error": body, "sequence_number": number}))
        usage = billed if error.report_usage else None
        failed = {"status": "failed", "error": {"code": error.code, "message": error.message}}
        response = {**self._opening(), **failed, "usage": _usage(usage)}
        event = {"type": "response.failed", "response": response, "sequence_number": number}
        return Chunk(azure.typed_event(event), usage=usage)

    def _opening(self) -> _Json:
        """The response before there is anything in it."""
        given: _Json = {name: value for name, value in self.fields.items() if value is not None}
        said: _Json = {name: given.get(name, default) for name, default in _DEFAULTS.items()}
        for name in ("reasoning", "text"):
            said[name] = {**_DEFAULTS[name], **said[name]}
        empty = dict.fromkeys(("completed_at", "content_filters", "error", "incomplete_details", "usage"))
        return {
            "id": f"resp_{self.id}",
            "object": "response",
            "created_at": self.context.created,
            "status": "in_progress",
            "model": self.context.deployment,
            "output": [],
            **empty,
            **said,
        }

    def _response(self, output: list[_Json], end: str, usage: _Json | None) -> _Json:
        cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(end)
        filters = [_content_filter("prompt"), _content_filter("completion", blocked=end == "content_filter")]
        return {
            **self._opening(),
            "status": "incomplete" if cut else "completed",
            "completed_at": None if cut else self.context.created,
            "content_filters": filters,
            "incomplete_details": {"reason": cut} if cut else None,
            "output": output,
            "usage": usage,
        }

    def _reasoning_tokens(self) -> int:
        effort = (self.fields.get("reasoning") or {}).get("effort")
        reasons = self.context.settings.reasons(self.context.deployment) and effort not in _NO_REASONING
        return _REASONING_TOKENS if reasons else 0

    def _reasoning(self, tokens: int) -> Iterator[_Json]:
        if tokens:
            item: _Json = {"id": self._item_id("rs"), "type": "reasoning", "summary": []}
            if "reasoning.encrypted_content" in (self.fields.get("include") or ()):
                item["encrypted_content"] = self.context.turns.seal(self.context.deployment, item["id"])
            yield item

    def _visible(self, written: Written) -> Iterator[_Json]:
        kind, prefix = ("function_call", "fc") if written.function else ("message", "msg")
        status = "completed" if written.end == "stop" else "incomplete"
        item = {"id": self._item_id(prefix), "type": kind, "status": status}
        if written.function:
            call = {"arguments": written.text, "call_id": f"call_{item['id'][-24:]}"}
            yield {**item, **call, "name": written.function}
        elif written.pieces:
            yield {**item, "content": [response_events.text_part(written.text)], "role": "assistant"}

    def _item_id(self, kind: str) -> str:
        return new_id(kind, self.id[:16], self.context.created, f"{self.id} {kind}")


def parse(fields: _Json, context: Context) -> ResponsesRequest:
    """Raises Refused."""
    _check_parameters(fields)
    previous_id = body.optional(fields, "previous_response_id", str)
    previous = context.turns.previous(previous_id) if previous_id else None
    response_id = _id(fields, context, previous_id)
    given = items.parse(fields.get("input") or [], context)
    every = (*(previous.context if previous else ()), *_with_ids(given, response_id, context.created))
    items.check_outputs(every)
    said = (
        [{"role": "system", "content": text}] if (text := body.optional(fields, "instructions", str)) else []
    )
    said += items.messages(every)
    form: _Json = body.optional(fields.get("text") or {}, "format", dict) or {}
    cost = billing.prompt(said, [fields.get("tools"), form], context.settings.billed_as)
    request = ResponsesRequest(
        context=context,
        fields=fields,
        task=Task(fields, said, form, context.settings.billed_as is not None),
        input=every,
        prompt=messages.prompt(said),
        prompt_tokens=cost.billed,
        cap=body.positive(fields, "max_output_tokens", least=_LEAST_CAP),
        stream=body.optional(fields, "stream", bool) or False,
        id=response_id,
    )
    if cost.context > _CONTEXT_TOKENS:
        raise Refused(request.too_long())
    return request


def _check_parameters(fields: _Json) -> None:
    options: _Json = body.optional(fields, "stream_options", dict) or {}
    for name in (*fields, *(f"stream_options.{option}" for option in options)):
        if name in _MOVED:
            message = f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to "
            raise Refused(azure.invalid_request(f"{message}'{_MOVED[name]}'.", None, "unsupported_parameter"))
        if name not in {*_PARAMETERS, "stream_options.include_obfuscation"}:
            raise Refused(azure.invalid_request(f"Unknown parameter: '{name}'.", name, "unknown_parameter"))
    for name, kind in {
        "store": bool,
        "include": list,
        "tools": list,
        "reasoning": dict,
        "text": dict,
    }.items():
        body.optional(fields, name, kind)
    if fields.get("input") in (None, "", []) and not fields.get("previous_response_id"):
        message = (
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided."
        )
        raise Refused(azure.invalid_request(message, None, "missing_required_parameter"))


def _id(fields: _Json, context: Context, previous_id: str | None) -> str:
    material = f"{context.salt!r} {fields!r}"
    alone = new_id("", "", 0, f"conversation {material}")[-16:]
    conversation = previous_id.rpartition("_")[2][:16] if previous_id else alone
    return new_id("", conversation, context.created, material)[1:]


def _with_ids(given: list[_Json], response_id: str, created: int) -> Iterator[_Json]:
    kinds = {"message": "msg", "function_call": "fc"}
    for number, item in enumerate(given):
        kind = kinds.get(item["type"], "item")
        new = new_id(kind, response_id[:16], created, f"{response_id} {number}")
        yield {**item, "id": item.get("id") or new}


def _content_filter(source: str, *, blocked: bool = False) -> _Json:
    jailbreak = {"jailbreak": azure.NO_JAILBREAK} if source == "prompt" else {}
    results: _Json = {**(azure.FILTERED if blocked else azure.SAFE), **jailbreak}
    offsets = {"start_offset": 0, "end_offset": 0, "check_offset": 0}
    where = {"blocked": blocked, "source_type": source, "content_filter_raw": []}
    return {**where, "content_filter_results": results, "content_filter_offsets": offsets}


def _usage(usage: Usage | None, reasoning_tokens: int = 0) -> _Json | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": usage.total,
    }
