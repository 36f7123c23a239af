"""Says why a request can use more tokens than its text: the model may read what is not in the body."""

from __future__ import annotations

from .families import Family
from .parts import FILES, MediaBody, Part, search_of

FEW_TOKENS = 1000
"""Pictures that cost less are no reason."""


def reason(body: MediaBody, parts: list[Part], family: Family, picture_tokens: int, text_bytes: int) -> str:
    """What makes the request large, and what to do. Empty if that is the text.

    Without a full stop, so that other advice can follow.
    """
    if search := search_of(body):
        tokens = family.document_tokens
        return f"{search} lets the model read up to {tokens:,} tokens of what it finds. Leave it out"
    if any(_is_elsewhere(part) for part in parts):
        return (
            f"A file whose content is not in the request can cost up to {family.file_tokens:,} tokens. "
            "Send its content, as 'file_data'"
        )
    if picture_tokens > max(text_bytes, FEW_TOKENS):
        return (
            f"Pictures in the request can cost up to {picture_tokens:,} tokens. Send fewer of them, or with "
            '"detail": "low"'
        )
    return ""


def _is_elsewhere(part: Part) -> bool:
    """Whether a file is linked, or was uploaded before."""
    file = part.file if part.type == "file" else part
    return part.type in FILES and (file is None or file.file_data is None)
