"""Imports function_app.py as the platform does: on the loop's thread, its directory last on the path."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import azure.functions as func
from azure.functions.decorators.function_app import FunctionRegister

from .faults import AppFault


def find_script(path: Path) -> Path:
    """The function_app.py that `path`, a file or a directory, stands for. Raises AppFault."""
    script = (path / "function_app.py" if path.is_dir() else path).resolve()
    if not script.is_file():
        raise AppFault(f"there is no {script}")
    return script


def load_app(script: Path) -> func.FunctionApp:
    """Runs the script afresh each time, so that two hosts never share an app. Raises AppFault."""
    module = _run(script)
    apps = [value for value in vars(module).values() if isinstance(value, FunctionRegister)]
    if len(apps) != 1:
        raise AppFault(f"{script} must hold one function app at its top level, it holds {len(apps)}")
    return apps[0]  # type: ignore[return-value] # only FunctionApp and the ASGI and WSGI apps are of this kind


def _run(script: Path) -> ModuleType:
    directory = str(script.parent)
    if directory not in sys.path:
        sys.path.append(directory)
    spec = importlib.util.spec_from_file_location(script.stem, script)
    if spec is None or spec.loader is None:
        raise AppFault(f"{script} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    return module
