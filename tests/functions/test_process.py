"""Settings of the worker's process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imported_modules_are_excluded_from_garbage_collection() -> None:
    program = "import gc, function_app; print(gc.get_freeze_count() > 10 * gc.get_count()[0], gc.isenabled())"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["True", "True"]
