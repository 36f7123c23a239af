"""Saves a file that a command makes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from admin.errors import CommandError


def save(file: Path, content: str) -> None:
    """Replace the file only when the new one is complete. Raises CommandError if it cannot be written."""
    if not file.name:
        raise CommandError("Give the name of a file.")
    partial = file.with_name(f".{file.name}.new")
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise CommandError(f"Cannot write {file}: {error.strerror or error}. Use another file.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
