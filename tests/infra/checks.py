"""Every check by its name. A check reads a project and yields its faults, one sentence each.

`test_faults.py` proves that each of them can see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tests.infra import deployment_checks, template_checks
from tests.infra.project import Project

Check = Callable[[Project], Iterator[str]]

CHECKS: Final[Mapping[str, Check]] = {
    name: check
    for module in (template_checks, deployment_checks)
    for name, check in vars(module).items()
    if not name.startswith("_") and getattr(check, "__module__", "") == module.__name__
}
