"""The cloud's worker process, around `azure-functions-runtime`.

    python -P worker.py PORT APP_DIRECTORY [placeholder [CLASSIC_PACKAGES]]

It takes its orders as lines of JSON from 127.0.0.1:PORT and ends when that connection does. Only the app
decides what of the project is imported: its directory is the last of the path, as in the cloud. A placeholder
has the app neither on its path nor as its working directory until it is specialized.
"""

import asyncio
import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_STATUS_OF_THIS_PROCESS = Path("/proc/self/status")
_CLASSIC_HTTP = "azure_functions_worker.http_v2"


class Message(SimpleNamespace):
    """Stands for any message of the host's protocol."""

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802 - named by protobuf
        return next(iter(vars(self)), None)


class Binding(Message):
    """A trigger's value on its way to a function."""

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802 - named by protobuf
        return "data"


class StatusResult(Message):
    Failure, Success = 0, 1


class BindingInfo(Message):
    undefined, out, inout = 0, 1, 2


PROTOS = SimpleNamespace(
    BindingInfo=BindingInfo,
    StatusResult=StatusResult,
    **dict.fromkeys(
        [
            "FunctionEnvironmentReloadResponse",
            "FunctionLoadResponse",
            "FunctionMetadataResponse",
            "InvocationResponse",
            "RpcException",
            "RpcFunctionMetadata",
            "WorkerInitResponse",
            "WorkerMetadata",
        ],
        Message,
    ),
)


class LogMessages(logging.Handler):
    """Counts what is logged: in the cloud each is a gRPC message to the host."""

    count = 0

    def emit(self, _: logging.LogRecord) -> None:
        self.count += 1


LOG_MESSAGES = LogMessages()


class Worker:
    """Each public coroutine is an order that may be given; what it returns goes back as JSON."""

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
            # no app is there yet, and the worker caches that there is no HTTP extension
            await self._init(str(Path.cwd()))

    async def index(self, environment: dict[str, str] | None = None) -> dict[str, Any]:
        """Indexes and loads the app: its HttpUri and the triggers of its functions, or what went wrong.

        `environment` is for a placeholder: it becomes the process's whole environment.
        """
        self._runtime.start_threadpool_executor()
        directory = self._app_directory
        answer = await (self._init(directory) if environment is None else self._specialize(environment))
        if answer.result.status != StatusResult.Success:
            return {"fault": answer.result.exception.message}
        metadata = await self._runtime.functions_metadata_request(_request())
        functions = metadata.function_metadata_results or []
        for function in functions:
            load = Message(function_id=function.function_id)
            await self._runtime.function_load_request(_request(function_load_request=load))
        return {
            "http_uri": answer.capabilities.get("HttpUri"),
            "functions": [[one.function_id, one.name, one.raw_bindings] for one in functions],
        }

    async def _init(self, directory: str) -> Any:
        init = Message(capabilities={}, function_app_directory=directory)
        return await self._runtime.worker_init_request(_request(worker_init_request=init))

    async def _specialize(self, environment: dict[str, str]) -> Any:
        reload = Message(environment_variables=environment, function_app_directory=self._app_directory)
        request = _request(function_environment_reload_request=reload)
        return await self._runtime.function_environment_reload_request(request)

    async def invoke(
        self, function_id: str, invocation_id: str, parameter: str, data: dict[str, Any]
    ) -> None:
        self._in_flight += 1
        try:
            invocation = _invocation(function_id, invocation_id, parameter, data)
            answer = await self._runtime.invocation_request(_request(invocation_request=invocation))
        finally:
            self._in_flight -= 1
        if answer.result.status != StatusResult.Success:
            self._failures.append(answer.result.exception.message)

    def invoker(
        self, function_id: str, parameter: str, path: str
    ) -> Callable[[str], Coroutine[Any, Any, Any]]:
        """For many calls alike: the runtime's work for the invocation with a given id, and little else."""
        http = {"method": "POST", "url": path, "params": {}}
        shared = vars(_invocation(function_id, "", parameter, {"http": http}))
        run = self._runtime.invocation_request

        def invoke(invocation_id: str) -> Coroutine[Any, Any, Any]:
            invocation = Message(**shared)
            invocation.invocation_id = invocation_id
            work: Coroutine[Any, Any, Any] = run(_request(invocation_request=invocation))
            return work

        return invoke

    async def state(self) -> dict[str, Any]:
        # private, and the only sign of what the runtime never frees
        references = len(self._http.http_coordinator._context_references)
        return {
            "invocations_in_flight": self._in_flight,
            "failures": self._failures,
            "context_references": references,
            "log_messages": LOG_MESSAGES.count,
            "rss_kb": _rss_kb(),
        }


_PROPERTIES = {"host": "127.0.0.1", "protos": PROTOS}
_NO_BODY = Message()
_NO_TRACE = Message(trace_parent="", trace_state="", attributes={})
_NO_RETRY = Message(retry_count=0, max_retry_count=0, exception=None)


def _request(**request: Message) -> Message:
    return Message(request=Message(**request), properties=_PROPERTIES)


def _invocation(function_id: str, invocation_id: str, parameter: str, data: dict[str, Any]) -> Message:
    if "http" in data:
        data = {"http": Message(headers={}, query={}, body=_NO_BODY, **data["http"])}
    return Message(
        function_id=function_id,
        invocation_id=invocation_id,
        input_data=[Binding(name=parameter, data=Message(**data))],
        trigger_metadata={},
        trace_context=_NO_TRACE,
        retry_context=_NO_RETRY,
    )


def _rss_kb() -> int:
    """0 where the system does not tell."""
    if not _STATUS_OF_THIS_PROCESS.exists():
        return 0
    lines = _STATUS_OF_THIS_PROCESS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def _carry_out(worker: Worker, line: bytes, writer: asyncio.StreamWriter) -> None:
    order = json.loads(line)
    result = await getattr(worker, order["order"])(**order["arguments"])
    writer.write(json.dumps([order["id"], result]).encode() + b"\n")


async def main(port: int, app_directory: str, classic_packages: str = "") -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    worker = Worker(app_directory)
    if classic_packages:
        await worker.become_classic(classic_packages)
    under_way = set()
    while line := await reader.readline():
        task = asyncio.create_task(_carry_out(worker, line, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    os._exit(0)  # killed, not stopped: as in the cloud


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    logging.getLogger().addHandler(LOG_MESSAGES)
    PORT, APP_DIRECTORY, *PLACEHOLDER = sys.argv[1:]
    if not PLACEHOLDER:
        sys.path.append(APP_DIRECTORY)
    sys.path[:0] = PLACEHOLDER[1:]
    asyncio.run(main(int(PORT), APP_DIRECTORY, *PLACEHOLDER[1:]))
