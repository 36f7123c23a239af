"""The pictures, sounds and files in a body: what they cost, and which strings are theirs and no text.

They are read after JSON is decoded, and only where the API reads them: in the content of messages (chat)
and of items (Responses), and in the outputs of tools. The same words anywhere else are text.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .families import Family
from .inlined import (
    LONG_HEAD,
    SHORT_HEAD,
    decoded,
    document_limit,
    document_tokens,
    may_be_pdf,
    payload,
    sound_tokens,
)
from .pictures import Cut, Size, size_of

PICTURES = frozenset({"image_url", "input_image", "computer_screenshot"})
SOUND = "input_audio"
FILES = frozenset({"file", "input_file"})
MEDIA = PICTURES | FILES | {SOUND}

_NOT_HOSTED = frozenset({"function", "custom", "namespace"})
"""Tools that run in the attendee's own program, and the group that has only such tools."""

EARLIER_SOUND_TOKENS = 16_384
"""The longest answer of the audio models. A message may refer to an earlier spoken answer by its id."""

MOST_DOCUMENTS = 32
"""The most documents of a body that are read. Each may take 50 ms, and other calls wait for their counts."""

TOOLS_TOKENS = 128
"""The hidden text that tools or a response format add, beyond their own."""

_ABSENT, _NULL = msgspec.Raw(), msgspec.Raw(b"null")


class _Struct(msgspec.Struct, gc=False):
    pass


class _Url(_Struct):
    url: str | None = None
    detail: str | None = None


class _Sound(_Struct):
    data: str | None = None


class _File(_Struct):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None


class Part(_File):
    """A part of a message's content, or of a tool's output."""

    type: str | None = None
    text: str | None = None
    image_url: _Url | str | None = None
    detail: str | None = None
    input_audio: _Sound | None = None
    file: _File | None = None


class Holder(_Struct):
    """A message or an item."""

    content: list[Part] | Part | str | None = None
    output: list[Part] | Part | str | None = None
    audio: _Struct | None = None

    def parts(self) -> Iterator[Part]:
        for parts in (self.content, self.output):
            if isinstance(parts, list):
                yield from parts
            elif isinstance(parts, Part):
                yield parts


class _Tool(_Struct):
    type: str | None = None


class MediaBody(_Struct):
    """What is read of a request to find its media."""

    messages: list[Holder] | None = None
    input: list[Holder | str | int | list[int]] | str | None = None
    data_sources: list[msgspec.Raw] | None = None
    dataSources: list[msgspec.Raw] | None = None  # noqa: N815 - an older spelling
    web_search_options: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    functions: msgspec.Raw = _ABSENT
    response_format: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT

    def holders(self) -> Iterator[Holder]:
        yield from self.messages or ()
        if isinstance(self.input, list):
            yield from (item for item in self.input if isinstance(item, Holder))


class _TextMessage(_Struct):
    content: str
    audio: None = None
    output: None = None


class _TextBody(_Struct):
    """A request with neither media nor hidden text."""

    messages: list[_TextMessage] | None = None
    input: None = None
    data_sources: None = None
    dataSources: None = None  # noqa: N815 - an older spelling
    web_search_options: None = None
    tools: None = None
    functions: None = None
    response_format: None = None
    text: None = None


_decode = msgspec.json.Decoder(MediaBody).decode
_decode_text = msgspec.json.Decoder(_TextBody).decode
_decode_tools = msgspec.json.Decoder(list[_Tool]).decode


class Media:
    """What the media of a body cost, and their strings."""

    def __init__(self, tokens: int, parts: list[Part], family: Family, *, exactly: bool) -> None:
        """`exactly` reads all of the data, which takes long. Otherwise media may have an upper limit."""
        self.tokens = tokens
        self.picture_tokens = 0
        """The part of `tokens` that pictures cost. It may be more than the context window."""
        self.strings: list[str] = []
        self._family = family
        self._exactly = exactly
        self._documents = 0
        for part in parts:
            self.tokens += self._of_part(part)

    def _of_part(self, part: Part) -> int:
        if part.type in PICTURES:
            tokens = self._picture(part)
            self.picture_tokens += tokens
            return tokens
        if part.type == SOUND:
            return self._sound(part.input_audio)
        file = part.file if part.type == "file" else part
        tokens = self._file(file)
        if self._family.picture_factor > 1 and _may_have_pages(file):
            self.picture_tokens += tokens
        return tokens

    def _picture(self, part: Part) -> int:
        """One or two pictures: an inlined or linked one, and one that was uploaded before."""
        holder = part.image_url
        url, inner = (holder.url, holder.detail) if isinstance(holder, _Url) else (holder, None)
        details = {part.detail, inner} - {None}
        detail = part.detail or inner or "auto" if len(details) == 1 else "auto"
        largest = self._family.picture_tokens(None, detail)
        earlier = largest if part.file_id is not None else 0
        base64 = None if url is None else payload(url)
        if url is None or base64 is None:
            return largest + earlier
        self.strings.append(url)
        size = _size(base64, exactly=self._exactly)
        return self._family.picture_tokens(size, detail) + earlier

    def _sound(self, sound: _Sound | None) -> int:
        if sound is None or sound.data is None:
            return 0
        self.strings.append(sound.data)
        return sound_tokens(payload(sound.data) or sound.data)

    def _file(self, file: _File | None) -> int:
        """A file's own bytes, and one that was uploaded or is linked."""
        unknown = self._family.file_tokens
        if file is None or file.file_data is None:
            return unknown
        self.strings.append(file.file_data)
        base64 = payload(file.file_data) or file.file_data
        earlier = unknown if file.file_id is not None or file.file_url is not None else 0
        self._documents += 1
        if not self._exactly or self._documents > MOST_DOCUMENTS:
            return document_limit(base64, unknown) + earlier
        return document_tokens(base64, self._family.picture_tokens(None, "high"), unknown) + earlier


def _may_have_pages(file: _File | None) -> bool:
    if file is None or file.file_data is None or file.file_id is not None or file.file_url is not None:
        return True
    return may_be_pdf(payload(file.file_data) or file.file_data)


def decode(body: bytes) -> MediaBody | None:
    """The members that can hold media; None if they have another form. The rest is skipped quickly."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def is_text_only(body: bytes) -> bool:
    """Whether it has neither media nor hidden text. A fast check, so it may be False for such a body."""
    try:
        _decode_text(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def media_parts(body: MediaBody) -> list[Part]:
    return [part for holder in body.holders() for part in holder.parts() if part.type in MEDIA]


def hidden_tokens(body: MediaBody, family: Family) -> int:
    """The most tokens that join the prompt without being in the body.

    They are the documents of Azure OpenAI "on your data", what hosted tools find, earlier spoken answers, and
    the text around tools and response formats.
    """
    tools = (body.tools, body.functions, body.response_format, body.text)
    has_tools = any(raw not in (_ABSENT, _NULL) for raw in tools)
    sounds = sum(holder.audio is not None for holder in body.holders())
    tokens = sounds * EARLIER_SOUND_TOKENS + (search_of(body) is not None) * family.document_tokens
    return tokens + has_tools * TOOLS_TOKENS


def search_of(body: MediaBody) -> str | None:
    """What lets the model read documents that it finds: a member of the body, or a hosted tool."""
    if body.data_sources is not None or body.dataSources is not None:
        return "'data_sources'"
    if body.web_search_options not in (_ABSENT, _NULL):
        return "'web_search_options'"
    return _hosted_tool(body.tools)


def _hosted_tool(tools: msgspec.Raw) -> str | None:
    """A tool that runs at the upstream, which adds what it finds to the prompt. Also if in doubt."""
    if tools in (_ABSENT, _NULL):
        return None
    try:
        hosted = [tool.type for tool in _decode_tools(tools) if tool.type not in _NOT_HOSTED]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        hosted = [None]
    if not hosted:
        return None
    return f"The tool '{hosted[0][:50]}'" if hosted[0] else "A hosted tool in 'tools'"


def message_texts(body: MediaBody) -> Iterator[str]:
    """The text that certainly is part of the prompt: the contents of the messages."""
    for holder in body.holders():
        if isinstance(holder.content, str):
            yield holder.content
        for part in holder.parts():
            if part.type in {"text", "input_text"} and part.text is not None:
                yield part.text


def _size(base64: str, *, exactly: bool) -> Size | None:
    """The size of an inlined picture; None if it cannot be read."""
    for length in (SHORT_HEAD, LONG_HEAD, len(base64) if exactly else 0):
        data = decoded(base64[:length])
        try:
            return None if data is None else size_of(data)
        except Cut:
            continue
    return None
