"""Drives an app through `azure-functions-runtime`, the very code that indexes and invokes it in the cloud.

    async with OfficialRuntime(app_directory, environment={...}) as runtime:
        runtime.url

`runtime.py` starts the worker (`cloud_worker.py`, a process of its own) and the front of `functions_host`.
There are no keys, CORS, functionTimeout or schedules. With `placeholder=Placeholder()` the worker starts
without the app and is specialized then.
"""

from .runtime import AVAILABLE, WHY_NOT, IndexingFailed, OfficialRuntime, Placeholder, classic_packages

__all__ = ["AVAILABLE", "WHY_NOT", "IndexingFailed", "OfficialRuntime", "Placeholder", "classic_packages"]
