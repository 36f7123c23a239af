"""The JavaScript clients of the standard tests."""

from __future__ import annotations

from pathlib import Path

from tools import clients, node


def node_modules() -> Path:
    """The packages of the clients. They are installed the first time. Raises SetupError."""
    return node.install(Path(__file__).parent / "app" / "npm", "the JavaScript clients")


def program(name: str, folder: Path) -> Path:
    """A copy of a program of tests/clients in `folder`, with the packages beside it."""
    (folder / "node_modules").symlink_to(node_modules())
    return clients.copy(clients.PROGRAMS / f"{name}.mjs", folder)
