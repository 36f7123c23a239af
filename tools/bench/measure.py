"""What a process has used, from /proc; None on systems that have none."""

import os
from pathlib import Path


def cpu_seconds(pid: int) -> float | None:
    """Of user and system time, by all its threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
    except OSError:
        return None
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """What it occupies of the memory, shared libraries included."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed; `values` is not empty."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
