"""Images: a small picture of stripes, with the tokens that gpt-image-1 reports ("Image generation", "Cost").

DALL·E reports none. A prompt costs its words. An unknown size or quality counts as `auto`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import azure, body, png, tokens
from .azure import Refused
from .behaviours import Answer, ApiRequest, Context
from .journal import Usage
from .wire import Chunk, Response

_Json = dict[str, Any]
_TOKENS = {"low": 272, "medium": 1056, "high": 4160}
"""Of a square picture. One that is not square costs half more."""
_PARTIAL_TOKENS = 100
_SIZES = ("1024x1024", "1024x1536", "1536x1024", "1024x1792", "1792x1024")
_MOST, _MOST_PARTIAL = 10, 3


@dataclass(frozen=True, slots=True)
class ImagesRequest(ApiRequest):
    context: Context
    prompt: str
    prompt_tokens: int
    n: int
    size: str
    quality: str
    partial: int
    stream: bool

    def respond(self, answer: Answer) -> Response:
        made = _TOKENS[self.quality] * (2 if self.size == "1024x1024" else 3) // 2
        made = made * self.n + _PARTIAL_TOKENS * self.partial
        billed = Usage(self.prompt_tokens, made)
        reported = None if self.context.deployment.startswith("dall-e") else answer.reported(billed)
        if self.stream:
            return self.streamed(self._events(reported, made), Usage(self.prompt_tokens, 0))
        data = [{"b64_json": self._picture(number)} for number in range(self.n)]
        whole = {"created": self.context.created, **self._settings(), "data": data, **_usage(reported)}
        return self.whole(whole, billed, reported)

    def _events(self, usage: Usage | None, made: int) -> Iterator[Chunk]:
        for index in range(self.partial):
            event = {**self._event("partial_image", index), "partial_image_index": index}
            yield Chunk(azure.typed_event(event), _PARTIAL_TOKENS)
        event = {**self._event("completed", 0), **_usage(usage)}
        yield Chunk(azure.typed_event(event), made - _PARTIAL_TOKENS * self.partial, usage)

    def _event(self, kind: str, number: int) -> _Json:
        picture = {"b64_json": self._picture(number), "created_at": self.context.created}
        return {"type": f"image_generation.{kind}", **picture, **self._settings()}

    def _settings(self) -> _Json:
        return {"background": "opaque", "output_format": "png", "quality": self.quality, "size": self.size}

    def _picture(self, number: int) -> str:
        width, height = map(int, self.size.split("x"))
        return png.base64_picture(f"{self.prompt} {number}", width, height)


def parse(fields: _Json, context: Context) -> ImagesRequest:
    """Raises Refused."""
    prompt = body.optional(fields, "prompt", str)
    if not prompt:
        raise body.missing("prompt")
    stream = body.optional(fields, "stream", bool) or False
    size, quality = body.optional(fields, "size", str), body.optional(fields, "quality", str)
    n = body.positive(fields, "n", most=_MOST) or 1
    partial = body.positive(fields, "partial_images", most=_MOST_PARTIAL, least=0) or 0
    if stream and n > 1:
        raise Refused(azure.invalid_request("'n' must be 1 when 'stream' is enabled.", "n", "invalid_value"))
    if "response_format" in fields and not context.deployment.startswith("dall-e"):
        message = "Unknown parameter: 'response_format'."
        raise Refused(azure.invalid_request(message, "response_format", "unknown_parameter"))
    real_tokens = context.settings.billed_as is not None
    return ImagesRequest(
        context=context,
        prompt=prompt,
        prompt_tokens=tokens.count(prompt) if real_tokens else len(tokens.words(prompt)),
        n=n,
        size=size if size in _SIZES else "1024x1024",
        quality=quality if quality in _TOKENS else "medium",
        partial=partial if stream else 0,
        stream=stream,
    )


def _usage(usage: Usage | None) -> _Json:
    if usage is None:
        return {}
    read, made = usage.prompt_tokens, usage.completion_tokens
    return {
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": read},
            "output_tokens": made,
            "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
            "total_tokens": usage.total,
        }
    }
