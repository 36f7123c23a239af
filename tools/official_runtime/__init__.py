"""Drives an app through `azure-functions-runtime`, the very code that indexes and invokes it in the cloud.

    async with OfficialRuntime(app_directory, environment={...}) as runtime:
        runtime.url

`runtime.py` starts the worker (`cloud_worker.py`, a process of its own) and the front of `functions_host`: it
finds the function, forwards the request to the worker's HTTP server and sends the invocation beside it. Only
a body with a Content-Length is buffered, as by the host. Not reproduced: keys (every function is open), CORS,
functionTimeout and schedules (see `run_timer`).

With `placeholder=Placeholder()` the worker starts without the app and is specialized then.
"""

from .runtime import AVAILABLE, WHY_NOT, IndexingFailed, OfficialRuntime, Placeholder, classic_packages

__all__ = ["AVAILABLE", "WHY_NOT", "IndexingFailed", "OfficialRuntime", "Placeholder", "classic_packages"]
