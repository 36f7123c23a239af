"""Compressed responses: decoded piece by piece, whatever the pieces are."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.decoding import PIECE_BYTES, CannotDecode, decoder


def encoded(encoding: str, data: bytes) -> bytes:
    if encoding == "gzip":
        return gzip.compress(data)
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS if encoding == "deflate" else -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def decoded(encoding: str, pieces: list[bytes]) -> list[bytes]:
    decoding = decoder(encoding)
    assert decoding is not None
    found = []
    for piece in pieces:
        data = decoding.feed(piece)
        while data:
            found.append(data)
            data = decoding.feed(b"")
    decoding.end()
    return found


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "raw"]), st.integers(1, 50))
def test_a_body_is_decoded_wherever_its_pieces_end(data: bytes, encoding: str, size: int) -> None:
    body = encoded(encoding, data)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert b"".join(decoded("deflate" if encoding == "raw" else encoding, pieces)) == data


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
@pytest.mark.parametrize("extra", [-1, 0, 1, 258, 20 * PIECE_BYTES])
def test_a_piece_of_the_decoded_body_is_bounded(encoding: str, extra: int) -> None:
    data = bytes(PIECE_BYTES + extra)
    pieces = decoded("deflate" if encoding == "raw" else encoding, [encoded(encoding, data)])
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE_BYTES


@given(st.lists(st.binary(max_size=40)), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_decoded_or_refused(pieces: list[bytes], encoding: str) -> None:
    try:
        decoded(encoding, [encoded(encoding, b"begin"), *pieces])
        decoded(encoding, pieces)
    except CannotDecode:
        pass


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_an_encoding_that_changes_nothing_needs_no_decoder(encoding: str) -> None:
    assert decoder(encoding) is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "x"])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(CannotDecode):
        decoder(encoding)
