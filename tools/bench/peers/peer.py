"""What the benchmark has to know of a proxy that is not ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


class LeftOut(Exception):
    """It cannot take part on this machine; the message says why, as a sentence to read."""


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    """With its version."""
    policy: str
    """How it was run, what it did besides relaying and what it did not; for the page, in Markdown."""
    command: Callable[[Path, int, int], list[str]]
    """Given an empty folder, the port to serve on and the upstream's port: what to run, in that folder.

    Its configuration is written into the folder. The program's path is absolute.
    """
    env: Mapping[str, str] = field(default_factory=dict)
    """All that it gets of an environment, besides PATH and a HOME."""
    credential: str | None = None
    """The one `api-key` that it takes; None where it takes any."""
