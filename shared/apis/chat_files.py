"""Refuses uploaded files in chat messages: all attendees share the resource that holds them."""

from __future__ import annotations

import msgspec

from ..core.errors import UnsupportedValue

_NULL = msgspec.Raw(b"null")
_EMPTY = (b"null", b'""')
_NAME, _ESCAPE = b"file_id", b"\\u00"
"""The escape of a letter may hide the name."""

_REFUSAL = (
    "The proxy does not serve uploaded files, because all attendees would share them. Send the file in the "
    "request, as 'file_data', without 'file_id'."
)


class _File(msgspec.Struct):
    file_id: msgspec.Raw = _NULL


class _Part(msgspec.Struct):
    file: msgspec.Raw = _NULL


class _Message(msgspec.Struct):
    content: msgspec.Raw = _NULL


class _Body(msgspec.Struct):
    messages: list[_Message] = []


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_file = msgspec.json.Decoder(_File).decode


def check_files(body: bytes) -> None:
    """Raises UnsupportedValue: a message names a file. `body` is a JSON object."""
    if not _may_name_file(body):
        return
    try:
        names = [_file_id(part) for message in _decode_body(body).messages for part in _parts(message)]
    except (msgspec.MsgspecError, RecursionError):
        return  # the upstream refuses messages of another form
    if any(bytes(name) not in _EMPTY for name in names):
        raise UnsupportedValue(_REFUSAL, "messages")


def _may_name_file(data: bytes) -> bool:
    return _NAME in data or _ESCAPE in data


def _parts(message: _Message) -> list[_Part]:
    content = bytes(message.content)
    return _decode_parts(content) if content.startswith(b"[") and _may_name_file(content) else []


def _file_id(part: _Part) -> msgspec.Raw:
    return _decode_file(part.file).file_id if bytes(part.file).startswith(b"{") else _NULL
