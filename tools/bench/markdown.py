"""The two forms that the page needs."""

from collections.abc import Iterable


def table(head: tuple[str, ...], rows: Iterable[list[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quoted(lines: str) -> str:
    """As they are: whatever another program wrote into its log."""
    return "\n".join(f"    {line}" for line in lines.splitlines())
