"""Embeddings: the members that policy reads and changes. The rest passes unread."""

from __future__ import annotations

import re

import msgspec

from ..core.errors import InvalidRequest
from ..core.models import EMBEDDINGS as NAME
from ..core.models import Deployment, Usage
from .api import Api
from .chat_stream import ChatStream
from .decoding import decode
from .extras import Extras
from .members import with_model
from .quirks import Quirks
from .response_sealing import Sealer
from .usage import PromptTokens, usage_reader

_ABSENT = msgspec.Raw(b"null")

_is_input = re.compile(rb'"|\[\s*(?:["\[\]0-9]|\Z)|null').match
"""A string, or a list that begins with a string, a token or a list. The upstream checks the other items."""


class EmbeddingsRequest(Extras, frozen=True):
    """The members that policy reads. If a member comes twice, the last one counts, here and upstream."""

    model: str | None = None
    input: msgspec.Raw = _ABSENT

    @property
    def stream(self) -> None:
        """The API has no streams."""

    @property
    def choices(self) -> int:
        return 1

    @property
    def output_tokens(self) -> int:
        """Vectors cost no tokens."""
        return 0


class _WireUsage(msgspec.Struct):
    """The member `usage`. Its `total_tokens` are the same."""

    prompt_tokens: PromptTokens


_decoder = msgspec.json.Decoder(EmbeddingsRequest)
_read_usage = usage_reader(_WireUsage, lambda wire: Usage(wire.prompt_tokens))


class Embeddings(Api):
    name, title, path = NAME, "embeddings", "embeddings"
    prompt_member = "input"
    has_output_limit = False

    def parse(self, body: bytes, encoding: bytes = b"") -> EmbeddingsRequest:
        request = decode(_decoder, body, encoding, {}, self.prompt_member)
        if not _is_input(memoryview(request.input)[:1000]):
            raise InvalidRequest(
                "'input' must be a string, a list of strings, a list of tokens or a list of such lists.",
                param="input",
            )
        return request

    def upstream_body(
        self,
        body: bytes,
        request: EmbeddingsRequest,
        deployment: Deployment,
        output_limit: int | None,
        quirks: Quirks,
    ) -> bytes:
        return with_model(body, deployment)

    def stream_reader(self, request: EmbeddingsRequest, sealer: Sealer | None) -> ChatStream:
        """The API has no streams. If an upstream sends one, it must end as in chat."""
        return ChatStream(hide=False)

    def read_usage(self, member: bytes | msgspec.Raw) -> Usage | None:
        return _read_usage(member)


EMBEDDINGS = Embeddings()
