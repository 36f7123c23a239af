"""Refuses uploaded files in chat messages: all attendees share the resource that holds them."""

from __future__ import annotations

import msgspec

from ..core.errors import InvalidRequest, UnsupportedValue

MOST_FILES = 1000
"""Reading more would stop the event loop."""

_NULL = msgspec.Raw(b"null")
_EMPTY = (b"null", b'""')
_NAME, _ESCAPE = b"file_id", b"\\u00"
"""The escape of a letter may hide the name."""

_REFUSAL = (
    "The proxy does not serve uploaded files, because all attendees would share them. Send the file in the "
    "request, as 'file_data', without 'file_id'."
)


class _File(msgspec.Struct, gc=False):
    file_id: msgspec.Raw = _NULL


class _Part(msgspec.Struct, gc=False):
    file: msgspec.Raw = _NULL


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NULL


class _Body(msgspec.Struct):
    messages: list[_Message] = []


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_file = msgspec.json.Decoder(_File).decode


def check_files(body: bytes) -> None:
    """Check a JSON object.

    Raises:
        UnsupportedValue: a message names a file.
        InvalidRequest: there are too many files.
    """
    if not _may_name_file(body):
        return
    try:
        files = [file for message in _decode_body(body).messages for file in _files(message)]
        if len(files) > MOST_FILES:
            text = f"'messages' has more than {MOST_FILES:,} files. Send fewer."
            raise InvalidRequest(text, param="messages")
        names = [_decode_file(file).file_id for file in files]
    except (msgspec.MsgspecError, RecursionError):
        return  # the upstream refuses messages of another form
    if any(bytes(name) not in _EMPTY for name in names):
        raise UnsupportedValue(_REFUSAL, "messages")


def _may_name_file(data: bytes) -> bool:
    return _NAME in data or _ESCAPE in data


def _files(message: _Message) -> list[msgspec.Raw]:
    content = bytes(message.content)
    if not content.startswith(b"[") or not _may_name_file(content):
        return []
    return [part.file for part in _decode_parts(content) if bytes(part.file).startswith(b"{")]
