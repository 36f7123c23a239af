"""The line to the worker: orders go out, answers come back."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any, Self


class Orders:
    def __init__(self) -> None:
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._read, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._writer.done() and not self._writer.cancelled():
            self._writer.result().close()

    def end_with(self, process: asyncio.subprocess.Process, log: Path) -> None:
        """Answers that are still awaited when the process ends fail, with the end of its log."""
        self._keep(asyncio.create_task(self._fail_after(process, log)))

    async def give(self, order: str, **arguments: Any) -> Any:
        number, answer = next(self._ids), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        line = json.dumps({"id": number, "order": order, "arguments": arguments})
        (await asyncio.shield(self._writer)).write(line.encode() + b"\n")
        return await answer

    async def invoke(
        self, function_id: str, invocation_id: str, parameter: str, data: dict[str, Any]
    ) -> None:
        arguments = {"invocation_id": invocation_id, "parameter": parameter, "data": data}
        await self.give("invoke", function_id=function_id, **arguments)

    def invoke_beside(
        self, function_id: str, invocation_id: str, parameter: str, data: dict[str, Any]
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(self.invoke(function_id, invocation_id, parameter, data))
        self._keep(task)
        return task

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer.set_result(writer)
        while line := await reader.readline():
            number, result = json.loads(line)
            self._waiting.pop(number).set_result(result)

    async def _fail_after(self, process: asyncio.subprocess.Process, log: Path) -> None:
        status = await process.wait()
        for expected in self._waiting.values() if self._writer.done() else [self._writer]:
            if not expected.done():
                expected.set_exception(
                    RuntimeError(f"the worker has ended with status {status}:\n{_end_of(log)}")
                )

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a worker that has ended is told where its answer is awaited


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
