"""Refuses the ids of uploaded files and of earlier spoken answers in chat messages.

All attendees share the resource that holds them.
"""

from __future__ import annotations

import msgspec

from ..core.errors import InvalidRequest, UnsupportedValue

MOST_FILES = 1000
MOST_OBJECTS = 50_000
"""Reading more would stop the event loop."""

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


class _Sound(msgspec.Struct, gc=False):
    id: msgspec.Raw = _NULL


class _File(msgspec.Struct, gc=False):
    file_id: msgspec.Raw = _NULL


class _Part(msgspec.Struct, gc=False):
    file: msgspec.Raw = _NULL


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NULL
    audio: msgspec.Raw = _NULL


class _Body(msgspec.Struct):
    messages: list[_Message] = []


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_file = msgspec.json.Decoder(_File).decode
_decode_sound = msgspec.json.Decoder(_Sound).decode


def check_files(body: bytes) -> None:
    """Check a JSON object.

    Raises:
        UnsupportedValue: a message names a file or an earlier sound.
        InvalidRequest: there are too many files, or too many objects to look for them.
    """
    if not _may_name(_FILE, body) and body.find(_SOUND) < 0:
        return
    # A backslash stands only within a text, and after most of the braces in one.
    if body.count(b"{") > MOST_OBJECTS < body.count(b"{") - body.count(b"{\\"):
        text = f"The body has more than {MOST_OBJECTS:,} objects. Send fewer messages."
        raise InvalidRequest(text, param="messages")
    try:
        messages = _decode_body(body).messages
        files = [file for message in messages for file in _files(message)]
        if len(files) > MOST_FILES:
            text = f"'messages' has more than {MOST_FILES:,} files. Send fewer."
            raise InvalidRequest(text, param="messages")
        names = [_decode_file(file).file_id for file in files]
        sounds = [_sound_id(message) for message in messages]
    except (msgspec.MsgspecError, RecursionError):
        return  # the upstream refuses messages of another form
    if any(bytes(name) not in _EMPTY for name in names):
        raise UnsupportedValue(_NO_FILES, "messages")
    if any(bytes(name) not in _EMPTY for name in sounds):
        raise UnsupportedValue(_NO_SOUNDS, "messages")


def _may_name(name: bytes, data: bytes) -> bool:
    # `in` takes three times as long: it tries first whether the name is a number.
    return data.find(name) >= 0 or data.find(_ESCAPE) >= 0


def _files(message: _Message) -> list[msgspec.Raw]:
    content = bytes(message.content)
    if not content.startswith(b"[") or not _may_name(_FILE, content):
        return []
    return [part.file for part in _decode_parts(content) if bytes(part.file).startswith(b"{")]


def _sound_id(message: _Message) -> msgspec.Raw:
    return _decode_sound(message.audio).id if bytes(message.audio).startswith(b"{") else _NULL
