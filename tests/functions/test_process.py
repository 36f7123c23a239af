"""What the app does to the process that it lives in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_the_app_imports_is_spared_by_the_garbage_collector() -> None:
    program = "import gc, function_app; print(gc.get_freeze_count() > 10 * gc.get_count()[0], gc.isenabled())"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["True", "True"]
