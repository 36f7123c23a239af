"""The packages that a specialized worker of Python 3.11 and 3.12 uses in place of the app's."""

import asyncio
import sys
import sysconfig
from pathlib import Path
from typing import Final

from admin import environment

_REQUIREMENTS: Final = Path(__file__).with_name("classic.txt")


async def classic_packages() -> Path:
    """The folder to import them from; it is made where needed. Raises SetupError."""
    name = f"classic-{sys.version_info[0]}.{sys.version_info[1]}"
    python = await asyncio.to_thread(environment.beside, name, _REQUIREMENTS)
    base = str(python.parent.parent)
    return Path(sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base}))
