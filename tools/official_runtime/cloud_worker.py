"""The cloud's worker process, around `azure-functions-runtime`.

    python -P cloud_worker.py APP_DIRECTORY [placeholder [CLASSIC_PACKAGES]]

Orders are lines of JSON on standard input, replies are lines of JSON on standard output; what the app prints
goes to standard error. The process ends when its input does. The app's directory is the last one of the path,
as in the cloud, so only the app decides what of the project is imported. A placeholder has the app neither on
its path nor as its working directory until it is specialized.
"""

import asyncio
import importlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

_Json = dict[str, Any]
_Work = Coroutine[Any, Any, Any]
_CLASSIC_HTTP: Final = "azure_functions_worker.http_v2"


class Message(SimpleNamespace):
    """Stands for any message of the host's protocol."""

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802 - named by protobuf
        return "data" if hasattr(self, "data") else next(iter(vars(self)), None)


class StatusResult(Message):
    Failure, Success = 0, 1


class BindingInfo(Message):
    undefined, out, inout = 0, 1, 2


class _Protocol:
    """The classes of all messages."""

    StatusResult, BindingInfo = StatusResult, BindingInfo

    def __getattr__(self, _: str) -> type[Message]:
        return Message


_PROPERTIES: Final = {"host": "127.0.0.1", "protos": _Protocol()}
_SAME_IN_ALL_INVOCATIONS: Final = {
    "trigger_metadata": {},
    "trace_context": Message(trace_parent="", trace_state="", attributes={}),
    "retry_context": Message(retry_count=0, max_retry_count=0, exception=None),
}


def _request(**request: Message) -> Message:
    return Message(request=Message(**request), properties=_PROPERTIES)


def _invocation(function_id: str, parameter: str, data: dict[str, Any]) -> dict[str, Any]:
    """The fields of an invocation, but for its id."""
    if "http" in data:
        data = {"http": Message(headers={}, query={}, body=Message(), **data["http"])}
    value = Message(name=parameter, data=Message(**data))
    return {"function_id": function_id, "input_data": [value], **_SAME_IN_ALL_INVOCATIONS}


class Worker:
    """Each public coroutine is an order that may be given. What it returns goes back as JSON."""

    def __init__(self, app_directory: str) -> None:
        self._app_directory = app_directory
        self._runtime = importlib.import_module("azure_functions_runtime")
        self._http = importlib.import_module("azure_functions_runtime.http_v2")
        self._in_flight = 0
        self._failures: list[str] = []

    async def become_classic(self, packages: str) -> None:
        """Imitates a placeholder of Python 3.11 or 3.12. `packages` must be the first folder of the path."""
        for name in ("azure.functions", "azurefunctions.extensions.base"):
            module = importlib.import_module(name)
            if not str(module.__file__).startswith(packages):
                raise RuntimeError(f"{name} is {module.__file__}, not in {packages}")
        del sys.modules[self._http.__name__]
        self._http.__name__ = _CLASSIC_HTTP
        sys.modules[_CLASSIC_HTTP] = self._http
        if os.environ.get("PYTHON_ENABLE_INIT_INDEXING") == "1":
            # no app is there yet, and the worker keeps the result that there is no HTTP extension
            await self._init(str(Path.cwd()))

    async def index(self, environment: dict[str, str] | None = None) -> dict[str, Any]:
        """Indexes and loads the app: its HttpUri and the triggers of its functions, or the fault.

        `environment` is for a placeholder: it becomes the process's whole environment.
        """
        self._runtime.start_threadpool_executor()
        directory = self._app_directory
        response = await (self._init(directory) if environment is None else self._specialize(environment))
        if response.result.status != StatusResult.Success:
            return {"fault": response.result.exception.message}
        metadata = await self._runtime.functions_metadata_request(_request())
        functions = metadata.function_metadata_results or []
        for function in functions:
            load = Message(function_id=function.function_id)
            await self._runtime.function_load_request(_request(function_load_request=load))
        return {
            "http_uri": response.capabilities.get("HttpUri"),
            "functions": [[one.function_id, one.name, one.raw_bindings] for one in functions],
        }

    async def invoke(self, function_id: str, invocation_id: str, parameter: str, data: _Json) -> None:
        self._in_flight += 1
        try:
            response = await self.invoker(function_id, parameter, data)(invocation_id)
        finally:
            self._in_flight -= 1
        if response.result.status != StatusResult.Success:
            self._failures.append(response.result.exception.message)

    def invoker(self, function_id: str, parameter: str, data: _Json) -> Callable[[str], _Work]:
        """For many calls alike: the runtime's work for the invocation with a given id, and little else."""
        shared, run = _invocation(function_id, parameter, data), self._runtime.invocation_request

        def invoke(invocation_id: str) -> _Work:
            invocation = Message(invocation_id=invocation_id, **shared)
            return cast(_Work, run(_request(invocation_request=invocation)))

        return invoke

    async def state(self) -> dict[str, Any]:
        return {
            "invocations_in_flight": self._in_flight,
            "failures": self._failures,
            # private, and the only sign of what the runtime never frees
            "context_references": len(self._http.http_coordinator._context_references),
        }

    async def _init(self, directory: str) -> Any:
        init = Message(capabilities={}, function_app_directory=directory)
        return await self._runtime.worker_init_request(_request(worker_init_request=init))

    async def _specialize(self, environment: dict[str, str]) -> Any:
        reload = Message(environment_variables=environment, function_app_directory=self._app_directory)
        request = _request(function_environment_reload_request=reload)
        return await self._runtime.function_environment_reload_request(request)


async def _carry_out(worker: Worker, line: bytes, replies: int) -> None:
    order = json.loads(line)
    result = await getattr(worker, order["order"])(**order["arguments"])
    os.write(replies, json.dumps([order["number"], result]).encode() + b"\n")


def _read_orders(worker: Worker, replies: int, loop: asyncio.AbstractEventLoop) -> None:
    for line in sys.stdin.buffer:
        asyncio.run_coroutine_threadsafe(_carry_out(worker, line, replies), loop)
    os._exit(0)  # killed, not stopped: as in the cloud


async def main(replies: int, app_directory: str, classic_packages: str = "") -> None:
    worker = Worker(app_directory)
    if classic_packages:
        await worker.become_classic(classic_packages)
    orders = (worker, replies, asyncio.get_running_loop())
    threading.Thread(target=_read_orders, args=orders, daemon=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    REPLIES = os.dup(1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO)
    APP_DIRECTORY, *PLACEHOLDER = sys.argv[1:]
    if not PLACEHOLDER:
        sys.path.append(APP_DIRECTORY)
    sys.path[:0] = PLACEHOLDER[1:]
    asyncio.run(main(REPLIES, APP_DIRECTORY, *PLACEHOLDER[1:]))
