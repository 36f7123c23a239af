"""Refuses the ids of uploaded files and of earlier spoken answers in chat messages.

All attendees share the resource that holds them.
"""

from __future__ import annotations

import msgspec

from ..core.errors import UnsupportedValue

_NULL = msgspec.Raw(b"null")
_EMPTY = (b"null", b'""')
_FILE, _SOUND, _ESCAPE = b"file_id", b'"audio"', b"\\u00"
"""The escape of a letter may hide a name."""

_NO_FILES = (
    "The proxy does not serve uploaded files, because all attendees would share them. Send the file in the "
    "request, as 'file_data', without 'file_id'."
)
_NO_SOUNDS = (
    "The proxy does not serve earlier spoken answers by their id, because all attendees would share them. "
    "Leave 'audio' out of the message. Send its transcript, as 'content'."
)


class _Sound(msgspec.Struct):
    id: msgspec.Raw = _NULL


class _File(msgspec.Struct):
    file_id: msgspec.Raw = _NULL


class _Part(msgspec.Struct):
    file: msgspec.Raw = _NULL


class _Message(msgspec.Struct):
    content: msgspec.Raw = _NULL
    audio: msgspec.Raw = _NULL


class _Body(msgspec.Struct):
    messages: list[_Message] = []


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_file = msgspec.json.Decoder(_File).decode
_decode_sound = msgspec.json.Decoder(_Sound).decode


def check_files(body: bytes) -> None:
    """Raises UnsupportedValue: a message names a file or an earlier sound. `body` is a JSON object."""
    if not _may_name(_FILE, body) and _SOUND not in body:
        return
    try:
        messages = _decode_body(body).messages
        files = [_file_id(part) for message in messages for part in _parts(message)]
        sounds = [_sound_id(message) for message in messages]
    except (msgspec.MsgspecError, RecursionError):
        return  # the upstream refuses messages of another form
    if any(bytes(name) not in _EMPTY for name in files):
        raise UnsupportedValue(_NO_FILES, "messages")
    if any(bytes(name) not in _EMPTY for name in sounds):
        raise UnsupportedValue(_NO_SOUNDS, "messages")


def _may_name(name: bytes, data: bytes) -> bool:
    return name in data or _ESCAPE in data


def _parts(message: _Message) -> list[_Part]:
    content = bytes(message.content)
    return _decode_parts(content) if content.startswith(b"[") and _may_name(_FILE, content) else []


def _file_id(part: _Part) -> msgspec.Raw:
    return _decode_file(part.file).file_id if bytes(part.file).startswith(b"{") else _NULL


def _sound_id(message: _Message) -> msgspec.Raw:
    return _decode_sound(message.audio).id if bytes(message.audio).startswith(b"{") else _NULL
