"""Drives an app through `azure-functions-runtime`, the very code that indexes and invokes it in the cloud.

    async with OfficialRuntime(app_directory, environment={...}) as runtime:
        runtime.url

In front is a stand-in for the host: it finds the function by the host's rules, forwards the request to the
worker's own HTTP server and sends the invocation beside it. Nothing is buffered but what the host buffers: a
request body with a Content-Length. Not reproduced: keys (every function is open), CORS, the host's pages,
timers (see `run_timer`), and limits of time and size.

With `placeholder=Placeholder()` the worker starts without the app and is specialized then.
"""

from .runtime import AVAILABLE, WHY_NOT, IndexingFailed, OfficialRuntime, Placeholder, WorkerState

__all__ = ["AVAILABLE", "WHY_NOT", "IndexingFailed", "OfficialRuntime", "Placeholder", "WorkerState"]
