"""The size of a picture, from its own bytes, and what it costs by the public rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tokens.families import family_of
from shared.tokens.pictures import MAX_BLOCKS, MAX_SEGMENTS, Cut, size_of

from . import images

SIZE = (1234, 567)
FORMATS: dict[str, Callable[[images.Size], bytes]] = {
    "png": images.png,
    "jpeg": lambda size: images.jpeg(images.frame(size)),
    "gif": lambda size: images.gif(size, (0, 0, *size)),
    "webp lossy": images.webp_lossy,
    "webp lossless": images.webp_lossless,
    "webp extended": images.webp_extended,
    "bmp": images.bmp,
    "old bmp": images.old_bmp,
}


@pytest.mark.parametrize("form", FORMATS)
def test_the_size_is_read(form: str) -> None:
    assert size_of(FORMATS[form](SIZE)) == SIZE


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_that_ends_before_its_size_needs_more_bytes(form: str) -> None:
    data = FORMATS[form](SIZE)
    for length in range(8, len(data)):
        try:
            assert size_of(data[:length]) in {SIZE, None}
        except Cut:
            continue


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_without_an_area_has_an_unknown_size(form: str) -> None:
    if not form.startswith("webp l") and form != "webp extended":
        assert size_of(FORMATS[form]((0, 0))) is None


def test_the_largest_frame_of_a_jpeg_counts_whatever_its_kind() -> None:
    exif = images.segment(0xE1, images.frame((9, 9)))
    small, large = images.frame((10, 10)), images.frame(SIZE, marker=0xC2)
    assert size_of(images.jpeg(exif, small, b"\xff\xff", large, small)) == SIZE
    tables = [images.segment(marker, bytes(19)) for marker in (0xC4, 0xC8, 0xCC)]
    assert size_of(images.jpeg(*tables, small)) == (10, 10)


def test_a_jpeg_that_says_its_lines_later_has_an_unknown_size() -> None:
    assert size_of(images.jpeg(images.frame((10, 0)))) is None


def test_a_gif_has_the_size_of_its_screen_or_of_a_frame_outside() -> None:
    assert size_of(images.gif((20, 10), (0, 0, 5, 5), table=True)) == (20, 10)
    assert size_of(images.gif((1, 1), (0, 0, 1, 1), (100, 0, 1134, 567))) == SIZE


def test_a_picture_of_too_many_parts_has_an_unknown_size() -> None:
    assert size_of(images.jpeg(*[images.segment(0xE0, b"")] * (MAX_SEGMENTS + 1), images.frame(SIZE))) is None
    assert size_of(images.gif(SIZE, *[(0, 0, 1, 1)] * MAX_BLOCKS)) is None


@given(
    st.binary()
    | st.sampled_from([FORMATS[form](SIZE) for form in FORMATS]).flatmap(
        lambda data: st.binary(max_size=40).map(lambda tail: data[:12] + tail)
    )
)
def test_any_bytes_are_a_picture_or_none(data: bytes) -> None:
    try:
        size = size_of(data)
    except Cut:
        return
    assert size is None or min(size) > 0


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        # OpenAI, "Images and vision": the examples
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4.1-mini", (1024, 1024), "auto", 1659),
        # the borders of tiles and patches
        ("gpt-4o", (512, 512), "auto", 255),
        ("gpt-4o", (513, 512), "auto", 425),
        ("gpt-4o", (512, 513), "auto", 425),
        ("gpt-4.1", (2048, 512), "auto", 765),
        ("gpt-4.1", (2049, 513), "auto", 1445),  # as measured by users
        ("gpt-4o-mini", (1, 1), "low", 2833),
        ("gpt-4o-mini", (2048, 768), "high", 48_169),
        ("o3", (512, 512), "high", 225),
        ("gpt-5", (512, 512), "high", 210),
        ("gpt-5-nano", (32, 32), "low", 3),
        ("gpt-5-nano", (33, 32), "low", 5),
        ("o4-mini", (10_000, 10_000), "high", 2642),
        ("gpt-5.4", (10_000, 10_000), "high", 3000),
        ("gpt-5.4", (10_000, 10_000), "original", 12_000),
        ("gpt-6.1", (9000, 6000), "auto", 63_620),
        # pictures of any size
        ("gpt-4o", None, "auto", 1445),
        ("gpt-4o-mini", None, "original", 48_169),
        ("gpt-4.1-mini", None, "high", 2489),
        ("gpt-6.1", None, "high", 3000),
    ],
)
def test_the_cost_of_a_picture(model: str, size: images.Size | None, detail: str, tokens: int) -> None:
    assert family_of(model).picture_tokens(size, detail) == tokens


@given(
    st.integers(1, 20_000),
    st.integers(1, 20_000),
    st.sampled_from(["gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "gpt-5-codex", "gpt-5.4", "o1"]),
    st.sampled_from(["low", "high", "auto", "original"]),
)
def test_no_size_costs_more_than_an_unknown_one(width: int, height: int, model: str, detail: str) -> None:
    family = family_of(model)
    assert 0 < family.picture_tokens((width, height), detail) <= family.picture_tokens(None, detail)
