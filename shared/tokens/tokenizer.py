"""Counts the tokens of text with the vocabularies in the package bpe-openai (docs/decisions/0064).

The package holds the interpreter's lock while it counts, so long text is counted in pieces. The event loop
can run between two pieces. Not for the event loop, except for short text once `is_loaded`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from types import ModuleType
from typing import Protocol

from .shifts import pause

PIECE = 8192
"""Characters. Text is cut at the next good place after this many, or at twice as many."""

CUT_TOKENS = 128
"""The most tokens that a cut inside of a word can add or remove: no token is longer than 128 bytes."""

_letters = r"A-Za-z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff"
_boundary = re.compile(
    rf"(?<=\S)(?= )|(?<=[{_letters}])(?=[0-9\n\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f])"
)
"""No token spans these places, in either vocabulary, so a cut there does not change the count: before the
space after a word, and between a letter and a digit, the end of a line or Chinese punctuation."""

_loaded: set[str] = set()


class _Encoding(Protocol):
    def count(self, text: str, /) -> int: ...


@cache
def is_available() -> bool:
    """Whether the package is installed. It has no wheels for a few kinds of laptops."""
    return importlib.util.find_spec("bpe_openai") is not None


def is_loaded(encodings: tuple[str, ...]) -> bool:
    """Whether `count` with these encodings needs no loading, which takes about 50 ms for each."""
    return _loaded.issuperset(encodings)


def count(text: str, encodings: tuple[str, ...], limit: int = sys.maxsize) -> tuple[int, int]:
    """The tokens of ordinary text: (from below, from above), the largest of the encodings.

    Both are equal unless a word is longer than two pieces. The count may stop when it exceeds `limit`.
    """
    tokens, cuts = max(_count(text, _encoding(name), limit) for name in encodings)
    return max(0, tokens - cuts * CUT_TOKENS), tokens + cuts * CUT_TOKENS


def _count(text: str, encoding: _Encoding, limit: int) -> tuple[int, int]:
    """The tokens of the pieces, and how many cuts are inside of words."""
    if len(text) <= PIECE:
        pause()
        return encoding.count(text), 0
    tokens = cuts = 0
    for piece, is_cut in _pieces(text):
        pause()
        tokens += encoding.count(piece)
        cuts += is_cut
        if tokens - cuts * CUT_TOKENS > limit:
            break
    return tokens, cuts


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of at most `2 * PIECE` characters, and whether each ends inside of a word."""
    start = 0
    while len(text) - start > 2 * PIECE:
        found = _boundary.search(text, start + PIECE, start + 2 * PIECE)
        end = found.start() if found else start + 2 * PIECE
        yield text[start:end], found is None
        start = end
    yield text[start:], False


@cache
def _encoding(name: str) -> _Encoding:
    encoding: _Encoding = _bindings().tokenizer_for_encoding(name)
    _loaded.add(name)
    return encoding


@cache
def _bindings() -> ModuleType:
    """The package's library without its Python part, which parses every vocabulary again (0.7 s, 60 MB)."""
    package = importlib.util.find_spec("bpe_openai")
    folders = package.submodule_search_locations if package else None
    finder = FileFinder(str((folders or [""])[0]), (ExtensionFileLoader, EXTENSION_SUFFIXES))
    spec = finder.find_spec("_bindings")
    if spec is None or spec.loader is None:
        raise ImportError("The package bpe-openai is not installed. Install requirements.txt.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
