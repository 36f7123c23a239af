"""Image generation: the members that policy reads and changes. The rest passes unread."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..core.models import IMAGES as NAME
from ..core.models import Deployment, Usage
from .api import Api
from .decoding import decode
from .extras import Extras
from .image_stream import ImageStream
from .image_tokens import PARTIAL_TOKENS, most_tokens
from .members import with_model
from .quirks import Quirks
from .response_sealing import Sealer
from .usage import OutputTokens, PromptTokens, usage_reader

MAX_IMAGES, MAX_PARTIAL_IMAGES = 10, 3
_RANGES = {"n": (1, MAX_IMAGES), "partial_images": (0, MAX_PARTIAL_IMAGES)}


class ImagesRequest(Extras, frozen=True):
    """The members that policy reads. If a member comes twice, the last one counts, here and upstream."""

    model: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_IMAGES)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, msgspec.Meta(ge=0, le=MAX_PARTIAL_IMAGES)] | None = None
    quality: str | None = None
    size: str | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def output_tokens(self) -> int:
        """The most tokens of each picture, by any model: the body may name another one than the path."""
        return self.tokens_of(None)

    def tokens_of(self, model: str | None) -> int:
        """The most tokens of each picture by `model`."""
        partial = (self.partial_images or 0) * PARTIAL_TOKENS
        return most_tokens(model, self.quality, self.size) + partial


class _WireUsage(msgspec.Struct):
    """The member `usage`. Some models report none."""

    input_tokens: PromptTokens
    output_tokens: OutputTokens


_decoder = msgspec.json.Decoder(ImagesRequest)
_read_usage = usage_reader(_WireUsage, lambda wire: Usage(wire.input_tokens, wire.output_tokens))


class Images(Api):
    name, title, path = NAME, "images", "images/generations"
    prompt_member = "prompt"
    has_output_limit = False

    def parse(self, body: bytes, encoding: bytes = b"") -> ImagesRequest:
        return decode(_decoder, body, encoding, _RANGES, self.prompt_member)

    def most_output_tokens(self, request: ImagesRequest, model: str) -> int:
        return request.tokens_of(model)

    def upstream_body(
        self,
        body: bytes,
        request: ImagesRequest,
        deployment: Deployment,
        output_limit: int | None,
        quirks: Quirks,
    ) -> bytes:
        return with_model(body, deployment)

    def stream_reader(self, request: ImagesRequest, sealer: Sealer | None) -> ImageStream:
        return ImageStream(request.choices, _read_usage)

    def read_usage(self, member: bytes | msgspec.Raw) -> Usage | None:
        return _read_usage(member)


IMAGES = Images()
