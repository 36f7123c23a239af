"""Builds the zip that `azd deploy` uploads: the project's folder, without what .funcignore names."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

# What azd leaves out whatever .funcignore says.
_NEVER = (".azure/", ".funcignore", "local.settings.json")


def files(root: Path) -> Iterator[Path]:
    """The files of the package, relative to `root`, by the rules of .gitignore."""
    patterns = (root / ".funcignore").read_text(encoding="utf-8").splitlines()
    ignored = GitIgnoreSpec.from_lines([*patterns, *_NEVER])
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [
            name for name in sorted(folders) if not ignored.match_file(f"{(here / name).as_posix()}/")
        ]
        yield from (here / name for name in sorted(names) if not ignored.match_file((here / name).as_posix()))


def build(root: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for path in files(root):
            package.write(root / path, path.as_posix())
