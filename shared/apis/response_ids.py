"""Seals the upstream's ids for one attendee, and opens them again.

All attendees share one upstream resource, and anyone who sends an id of the Responses API can read and
continue what it names. So no id of the upstream is accepted from a client. A client gets sealed ids: each
names its event, user, deployment and kind, under the event's secret. An id opens only for the attendee it was
sealed for. Nothing is stored.

A sealed id looks like `resp_AbC...`: the prefix of the upstream's id, which some clients look at, then
base64url without padding of

    MAC (16 bytes) · form (1) · place (8) · turn (4) · tokens (varint) · the upstream's id without prefix

The MAC is keyed BLAKE2b over the kind, the prefix and the rest.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b, sha512
from hmac import compare_digest
from typing import NamedTuple

from ..core.ids import LEAST_SECRET_BYTES
from ..core.models import Credential, Deployment

PLACE_BYTES = 8
TURN_BYTES = 4
NO_TURN = bytes(TURN_BYTES)

MOST_TOKENS = 2**32 - 1
"""A larger number is sealed as this one."""

MOST_ID_BYTES = 1024
"""A longer id of the upstream is not sealed. Azure's have about 60 bytes."""

_MAC_BYTES = 16
_LONGEST = (MOST_ID_BYTES + 64) * 4 // 3
_HEX, _TEXT, _WHOLE = range(0x10, 0x13)
"""The form of the last part: hex digits as bytes, text, or an id without a prefix. The high digit is the
version."""
_RESPONSE, _ITEM, _CONTENT = b"r", b"i", b"c"

_CONTENT_MARK = "enc1."
_CONTENT_HEAD_BYTES = len(_CONTENT_MARK) + (_MAC_BYTES + PLACE_BYTES) // 3 * 4

_NO_PREFIX = "id"
_upstream_form = re.compile(r"([a-z]{1,16})_(.*)", re.DOTALL).fullmatch
_sealed_form = re.compile(r"([a-z]{1,16})_([A-Za-z0-9_-]+)").fullmatch
_is_base64 = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_is_hex = re.compile(r"(?:[0-9a-f]{2})+").fullmatch


class Opened(NamedTuple):
    """What a sealed id holds."""

    upstream_id: str
    place: bytes
    """The deployment that made it: see `place_of`."""
    tokens: int
    """The most tokens that it adds to a prompt."""
    turn: bytes
    """The same for all items of one response, so that their tokens count once."""


class OpenedContent(NamedTuple):
    content: str
    place: bytes


def place_of(deployment: Deployment) -> bytes:
    """A mark of a deployment. Stored responses and encrypted content work only where they were made."""
    endpoint = deployment.endpoint.rstrip("/").lower()
    return blake2b(_joined(endpoint, deployment.deployment_name), digest_size=PLACE_BYTES).digest()


def turn_of(response_id: str) -> bytes:
    """The mark of a response, from the upstream's id."""
    return blake2b(response_id.encode(), digest_size=TURN_BYTES).digest()


class Owner:
    """Seals and opens for one attendee. The same value always has the same sealed id."""

    def __init__(self, secret: bytes, credential: Credential) -> None:
        """`secret` is the event's own.

        Raises:
            ValueError: it is shorter than `LEAST_SECRET_BYTES`.
        """
        if len(secret) < LEAST_SECRET_BYTES:
            raise ValueError("the secret of sealed ids is too short")
        key = sha512(secret).digest()
        name = _joined(credential.event_code, credential.user)
        self._key = blake2b(name, key=key, digest_size=32, person=b"attendee").digest()

    def seal(self, upstream_id: str, place: bytes, tokens: int = 0) -> str:
        """The id of a response. `tokens` is the most that it adds to the prompt of the next turn.

        Raises:
            ValueError: the upstream's id is empty, longer than `MOST_ID_BYTES`, or not ASCII.
        """
        return self._seal(_RESPONSE, upstream_id, place, NO_TURN, tokens)

    def open(self, sealed: str) -> Opened | None:
        """What `seal` has sealed for this attendee; None for anything else."""
        return self._open(_RESPONSE, sealed)

    def seal_item(self, upstream_id: str, place: bytes, turn: bytes = NO_TURN, tokens: int = 0) -> str:
        """The id of an item, or of anything else within a response. Raises ValueError as `seal` does."""
        return self._seal(_ITEM, upstream_id, place, turn, tokens)

    def open_item(self, sealed: str) -> Opened | None:
        """What `seal_item` has sealed for this attendee; None for anything else."""
        return self._open(_ITEM, sealed)

    def seal_content(self, content: str, place: bytes) -> str:
        """Encrypted content of a reasoning or compaction item, with a seal before it."""
        mac = self._mac(_CONTENT, place, content.encode())
        return f"{_CONTENT_MARK}{urlsafe_b64encode(mac + place).decode()}{content}"

    def open_content(self, sealed: str) -> OpenedContent | None:
        """What `seal_content` has sealed for this attendee; None for anything else."""
        head, content = sealed[len(_CONTENT_MARK) : _CONTENT_HEAD_BYTES], sealed[_CONTENT_HEAD_BYTES:]
        if not sealed.startswith(_CONTENT_MARK) or len(sealed) < _CONTENT_HEAD_BYTES or not _is_base64(head):
            return None
        seal = urlsafe_b64decode(head)
        mac, place = seal[:_MAC_BYTES], seal[_MAC_BYTES:]
        if not compare_digest(mac, self._mac(_CONTENT, place, content.encode(errors="replace"))):
            return None
        return OpenedContent(content, place)

    def _seal(self, kind: bytes, upstream_id: str, place: bytes, turn: bytes, tokens: int) -> str:
        if not 0 < len(upstream_id) <= MOST_ID_BYTES or not upstream_id.isascii():
            raise ValueError("the upstream has sent an id that is empty, too long or not ASCII")
        if len(place) != PLACE_BYTES or len(turn) != TURN_BYTES or tokens < 0:
            raise ValueError("not a place, a turn or a number of tokens")
        prefix, form, rest = _parts(upstream_id)
        payload = b"%c%b%b%b%b" % (form, place, turn, _varint(min(tokens, MOST_TOKENS)), rest)
        sealed = self._mac(kind, prefix.encode(), payload) + payload
        return f"{prefix}_{urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def _open(self, kind: bytes, sealed: str) -> Opened | None:
        form = _sealed_form(sealed) if len(sealed) <= _LONGEST else None
        if form is None:
            return None
        prefix, text = form.groups()
        raw = _unpadded(text)
        if raw is None or not compare_digest(
            raw[:_MAC_BYTES], self._mac(kind, prefix.encode(), raw[_MAC_BYTES:])
        ):
            return None
        return _read(prefix, raw[_MAC_BYTES:])

    def _mac(self, kind: bytes, name: bytes, content: bytes) -> bytes:
        """`name` has at most 255 bytes."""
        mac = blake2b(b"%b%c%b" % (kind, len(name), name), key=self._key, digest_size=_MAC_BYTES)
        mac.update(content)
        return mac.digest()


def _parts(upstream_id: str) -> tuple[str, int, bytes]:
    """The prefix of an id, and the form and the bytes of the rest."""
    form = _upstream_form(upstream_id)
    if form is None:
        return _NO_PREFIX, _WHOLE, upstream_id.encode()
    prefix, rest = form.groups()
    return (prefix, _HEX, bytes.fromhex(rest)) if _is_hex(rest) else (prefix, _TEXT, rest.encode())


def _read(prefix: str, payload: bytes) -> Opened:
    """The parts of a payload whose MAC is right."""
    at = 1 + PLACE_BYTES + TURN_BYTES
    place, turn = payload[1 : 1 + PLACE_BYTES], payload[1 + PLACE_BYTES : at]
    tokens = shift = 0
    while True:
        byte = payload[at]
        tokens |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    rest = payload[at:]
    match payload[0]:
        case form if form == _HEX:
            return Opened(f"{prefix}_{rest.hex()}", place, tokens, turn)
        case form if form == _TEXT:
            return Opened(f"{prefix}_{rest.decode()}", place, tokens, turn)
        case _:
            return Opened(rest.decode(), place, tokens, turn)


def _varint(number: int) -> bytes:
    """Seven bits in each byte, the lowest first. All but the last byte have their high bit set."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _unpadded(text: str) -> bytes | None:
    """base64url in its one valid form. Python's decoder also accepts others, for example unused bits."""
    if len(text) % 4 == 1:
        return None
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return raw if urlsafe_b64encode(raw).rstrip(b"=") == text.encode() else None


def _joined(*texts: str) -> bytes:
    """Several texts as one, with their lengths, so that no two sequences have the same bytes."""
    return b"".join(len(text.encode()).to_bytes(4) + text.encode() for text in texts)
