"""The count of a text, against OpenAI's own tokenizer."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.tokens.tokenizer import CUT_TOKENS, PIECE, count

from .reference import text_tokens

ENCODINGS = ["o200k_base", "cl100k_base"]
WORDS = "a B é ß ǅ 中 文 。 ー 1 ٣ ½ 's 'LL '\u017f / // ! … 👩 word <|endoftext|>"
SPACES = (" ", "  ", "    ", "\n", "\r\n", "\t", "\x1c", "\x85", "\u00a0", "\u200d", "\u2028", "\u3000")
PIECES = [*WORDS.split(), *SPACES, "\u0301"]
texts = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_short_text_has_the_count_of_openais_tokenizer(encoding: str, text: str) -> None:
    expected = text_tokens(text, encoding)
    assert count(text, (encoding,)) == (expected, expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from(PIECES), min_size=1), seed=st.integers(0, 2**32))
def test_a_cut_between_words_does_not_change_the_count(encoding: str, words: list[str], seed: int) -> None:
    chooser = random.Random(seed)
    text = " x1".join("".join(chooser.choices(words, k=8)) for _ in range(2000))
    assert len(text) > 2 * PIECE
    expected = text_tokens(text, encoding)
    assert count(text, (encoding,)) == (expected, expected)


@pytest.mark.parametrize("letter", ["a", " ", "7", "\n", "!", "中", "\u0301", "ab", "abcdefg"])
def test_a_long_word_is_counted_from_below_and_from_above(letter: str) -> None:
    text = letter * (50_000 // len(letter))
    low, high = count(text, ("o200k_base",))
    assert low <= text_tokens(text) <= high
    assert high - low <= 2 * CUT_TOKENS * len(text) / (2 * PIECE) + 2 * CUT_TOKENS


def test_an_unknown_model_gets_the_larger_count() -> None:
    text = "नमस्ते दुनिया"
    both = [text_tokens(text, name) for name in ENCODINGS]
    assert both[0] != both[1]
    assert count(text, tuple(ENCODINGS)) == (max(both), max(both))
