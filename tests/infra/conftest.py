import os
import subprocess
import sys
from pathlib import Path


def run_hook(project: Path, hook: str, variables: dict[str, str]) -> tuple[int, str]:
    """Run a hook like azd does, with `variables` as azd's environment; returns exit status and output."""
    ours = ("EVENT_", "AZURE_", "PROXY_", "VNET_", "ADMIN_", "HOOK_", "IDENTITY_", "CI")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, str(project / "infra" / "hooks" / hook)]
    done = subprocess.run(command, env=inherited | variables, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout
