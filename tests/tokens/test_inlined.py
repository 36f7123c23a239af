"""Base64 in every form, sounds and documents."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tokens import inlined
from shared.tokens import pdf as pdfs
from shared.tokens.inlined import decoded, document_limit, document_tokens, payload, sound_tokens

UNKNOWN = 999_999
PAGE = 1445


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


TWICE = zlib.compress(b"BT (hello) Tj ET " * 1000)
EMPTY_BLOCK = b"\0\0\0\xff\xff"
"""A block of compressed data that holds nothing (RFC 1951, 3.2.4)."""


def beginning_late(data: bytes, size: int) -> bytes:
    """`data`, compressed: `size` bytes of it, then more than a piece of empty blocks, then the rest."""
    compressor = zlib.compressobj()
    begin = compressor.compress(data[:size]) + compressor.flush(zlib.Z_FULL_FLUSH)
    return begin + EMPTY_BLOCK * pdfs.PIECE + compressor.compress(data[size:]) + compressor.flush()


@given(st.binary())
def test_base64_is_read_however_it_is_written(data: bytes) -> None:
    standard = encoded(data)
    for text in (
        standard,
        standard.rstrip("="),
        base64.urlsafe_b64encode(data).decode(),
        base64.encodebytes(data).decode(),
        base64.encodebytes(data).decode().replace("\n", "\r\n"),
    ):
        assert decoded(text) == data


@pytest.mark.parametrize("text", ["%2B", "a.b", "ab=cd", "é", "AA\0A"])
def test_what_is_no_base64_is_not_read(text: str) -> None:
    assert decoded(text) is None


@pytest.mark.parametrize(
    "start",
    [
        "data:image/png;base64,",
        "data:image/png;BASE64,",
        "DATA:image/png;charset=utf-8;Base64,",
        " data:;base64,",
        "data:image/png; base64 ,",
    ],
)
def test_a_data_uri_holds_base64(start: str) -> None:
    assert payload(start + "QUJD") == "QUJD"


@pytest.mark.parametrize(
    "link", ["https://example.com/a.png", "", "data:image/png,abc", "base64,QUJD", "QUJD"]
)
def test_a_link_holds_none(link: str) -> None:
    assert payload(link) is None


def wav(seconds: int, rate: int = 16_000, channels: int = 1, bits: int = 16, kind: int = 1) -> bytes:
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits)
    sound = bytes(min(seconds * rate * block, 2_000_000))
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + head + b"data\xff\xff\xff\xff" + sound


def test_a_wav_costs_its_seconds() -> None:
    assert 200 <= sound_tokens(encoded(wav(10))) <= 202
    assert 200 <= sound_tokens(encoded(wav(10, rate=8000, channels=2, bits=8))) <= 202


@pytest.mark.parametrize(
    "data",
    [
        wav(1, rate=2_000_000),
        wav(1, channels=200),
        wav(1, kind=17),
        wav(1, bits=7),
        wav(1).replace(b"data", b"fmt "),
        b"fLaC" + bytes(32_000),
        wav(1)[:20],
        b"RIFF",
    ],
)
def test_any_other_sound_costs_its_bytes(data: bytes) -> None:
    assert sound_tokens(encoded(data)) >= len(data)


def test_an_mp3_costs_at_least_its_length_at_the_lowest_bit_rate() -> None:
    for start in (b"ID3\x04", b"\xff\xf3\x18\xc4"):
        data = start + bytes(8_000)  # 8 seconds at 8 kbit/s
        assert 8 * inlined.SOUND_TOKENS_PER_SECOND <= sound_tokens(encoded(data)) < 400


def pdf(*streams: bytes, raw: bytes = b"") -> bytes:
    return (
        b"%PDF-1.7\n"
        + raw
        + b"".join(b"<<>> stream\r\n" + zlib.compress(s) + b"\nendstream\n" for s in streams)
    )


def cost(data: bytes) -> int:
    return document_tokens(encoded(data), PAGE, UNKNOWN)


def test_a_text_file_costs_its_bytes() -> None:
    assert cost(b"hello" * 100) == 500
    assert 500 <= document_limit(encoded(b"hello" * 100), UNKNOWN) <= 504


def test_a_pdf_costs_its_inflated_text_and_a_picture_of_each_page() -> None:
    text = b"BT (hello) Tj ET " * 1000
    data = pdf(text, raw=b"<< /Type /Page >> << /Type/Page >>")
    assert cost(data) == len(data) + len(text) + 2 * PAGE
    assert document_limit(encoded(data), UNKNOWN) == UNKNOWN


@pytest.mark.parametrize(
    "contents",
    [b"/Contents 7 0 R " * 3, b"/Contents [7 0 R 8 0 R\n7 0 R 7 0 R]", b"/#43ontents[7 0 R 7 0 R 7 0 R]"],
)
def test_a_text_that_several_pages_show_costs_each_time(contents: bytes) -> None:
    text = b"BT (hello) Tj ET " * 1000
    assert 3 * len(text) <= cost(pdf(text, raw=contents)) < 4 * len(text)


@pytest.mark.parametrize("end", [b"stream\n", b"stream\r", b"stream \r\n", b"stream\t\n", b"stream"])
def test_a_stream_is_inflated_however_its_line_ends(end: bytes) -> None:
    text = b"BT (hello) Tj ET " * 1000
    assert cost(pdf(text).replace(b"stream\r\n", end, 1)) > len(text)


def test_pages_are_found_in_compressed_objects_and_under_any_name() -> None:
    assert cost(pdf(b"/Page " * 7)) >= 7 * PAGE
    assert cost(pdf(raw=b"/P#61ge /#50a#67e /Page")) >= 3 * PAGE
    assert cost(pdf(raw=b"/Page /Kids [3 0 R 3 0 R\n3 0 R 3 0 R]")) >= 4 * PAGE


@pytest.mark.parametrize(
    "data",
    [
        pdf(bytes(pdfs.MAX_INFLATED + 1)),
        pdf(*[bytes(1_000_000)] * 5),
        pdf(raw=b"/Encrypt 5 0 R"),
        pdf(raw=b"/Filter /LZWDecode"),
        pdf(raw=b"/Filter /#4cZ#57Decode"),
        pdf(raw=b"/Filter [/ASCII85Decode /FlateDecode]"),
        pdf(raw=b"/Filter [/A#48x/Fl]"),
        pdf(raw=b"/Filter [/RunLengthDecode]"),
        pdf(b"[/ASCIIHexDecode /FlateDecode]"),
        pdf(bytes(pdfs.PIECE - 9) + b"[/ASCIIHexDecode /FlateDecode]"),
        pdf(TWICE),
        pdf(TWICE[:2] + EMPTY_BLOCK * pdfs.PIECE + TWICE[2:]),
        b"%PDF-1.7\n<<>> stream\r\n" + beginning_late(TWICE, 1),
        b"PK\x03\x04 a document of Word",
        b"\x1f\x8b\x08",
    ],
)
def test_a_document_that_cannot_be_bounded_has_the_unknown_cost(data: bytes) -> None:
    assert cost(data) == UNKNOWN


@pytest.mark.parametrize("part", [b"/Kids [", b"/Contents [1 ", b"stream\n", b"stream\n\x78\x9c", b"/Page["])
def test_a_document_of_many_beginnings_is_read_in_proportion_to_its_length(part: bytes) -> None:
    """A step that reads to the end for each of them would take hours, and hold the interpreter's lock."""
    assert cost(b"%PDF" + part * 300_000) > 0


def test_what_is_no_base64_has_the_unknown_cost() -> None:
    assert document_tokens("%%%", PAGE, UNKNOWN) == document_limit("%%%", UNKNOWN) == UNKNOWN


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"%PDF stream\n" + data))
def test_a_document_never_costs_more_than_its_limit(data: bytes) -> None:
    assert cost(data) <= document_limit(encoded(data), UNKNOWN)
