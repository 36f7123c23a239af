"""The cloud's worker process, around `azure-functions-runtime`.

    python -P worker.py PORT APP_DIRECTORY

It takes its orders as lines of JSON from 127.0.0.1:PORT and ends when that connection does. Only the app
decides what of the project is imported: its directory is the last of the path, as in the cloud.
"""

import asyncio
import importlib
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_STATUS_OF_THIS_PROCESS = Path("/proc/self/status")


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


class Worker:
    """Each public coroutine is an order that may be given; what it returns goes back as JSON."""

    def __init__(self, app_directory: str) -> None:
        self._app_directory = app_directory
        self._runtime = importlib.import_module("azure_functions_runtime")
        self._http = importlib.import_module("azure_functions_runtime.http_v2")
        self._in_flight = 0
        self._failures: list[str] = []

    async def index(self) -> dict[str, Any]:
        """Indexes and loads the app: its HttpUri and the triggers of its functions, or what went wrong."""
        self._runtime.start_threadpool_executor()
        init = Message(capabilities={}, function_app_directory=self._app_directory)
        answer = await self._runtime.worker_init_request(_request(worker_init_request=init))
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

    async def invoke(
        self, function_id: str, invocation_id: str, parameter: str, data: dict[str, Any]
    ) -> None:
        self._in_flight += 1
        try:
            answer = await self._runtime.invocation_request(
                _request(invocation_request=_invocation(function_id, invocation_id, parameter, data))
            )
        finally:
            self._in_flight -= 1
        if answer.result.status != StatusResult.Success:
            self._failures.append(answer.result.exception.message)

    async def state(self) -> dict[str, Any]:
        # private, and the only sign of what the runtime never frees
        references = len(self._http.http_coordinator._context_references)
        return {
            "invocations_in_flight": self._in_flight,
            "failures": self._failures,
            "context_references": references,
            "rss_kb": _rss_kb(),
        }


def _request(**request: Message) -> Message:
    return Message(request=Message(**request), properties={"host": "127.0.0.1", "protos": PROTOS})


def _invocation(function_id: str, invocation_id: str, parameter: str, data: dict[str, Any]) -> Message:
    if "http" in data:
        data = {"http": Message(headers={}, query={}, body=Message(), **data["http"])}
    return Message(
        function_id=function_id,
        invocation_id=invocation_id,
        input_data=[Binding(name=parameter, data=Message(**data))],
        trigger_metadata={},
        trace_context=Message(trace_parent="", trace_state="", attributes={}),
        retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
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


async def main(port: int, app_directory: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    worker = Worker(app_directory)
    under_way = set()
    while line := await reader.readline():
        task = asyncio.create_task(_carry_out(worker, line, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    os._exit(0)  # killed, not stopped: as in the cloud


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.path.append(sys.argv[2])
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
