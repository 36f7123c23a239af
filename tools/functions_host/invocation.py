"""Calls a function and makes of its result what the platform's HTTP extension makes of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from os import environ
from typing import Any
from uuid import uuid4

from fastapi.encoders import jsonable_encoder
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from .functions import Handler

_log = logging.getLogger(__name__)

Invoke = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class InvocationContext:
    """What a function that takes `context` gets."""

    function_name: str
    invocation_id: str = field(default_factory=lambda: str(uuid4()))


class ThreadPool:
    """For functions that are not async; as large as on the platform, made when first needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[[], Any]) -> Any:
        if self._pool is None:
            count = environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
            self._pool = ThreadPoolExecutor(int(count) if count.isdecimal() and int(count) else None)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def invoker(handler: Handler, threads: ThreadPool) -> Invoke:
    """The handler as one async call that takes the trigger's value."""
    call, parameter = handler.call, handler.parameter

    async def invoke_async(trigger: Any) -> Any:
        return await call(**_arguments(handler, trigger))

    async def invoke_in_thread(trigger: Any) -> Any:
        return await threads.run(partial(call, **_arguments(handler, trigger)))

    if not handler.is_async:
        return invoke_in_thread
    if handler.wants_context:
        return invoke_async
    if parameter == "req":
        return lambda trigger: call(req=trigger)
    return lambda trigger: call(**{parameter: trigger})


def _arguments(handler: Handler, trigger: Any) -> dict[str, Any]:
    arguments = {handler.parameter: trigger}
    if handler.wants_context:
        arguments["context"] = InvocationContext(handler.name)
    return arguments


def to_response(name: str, result: object) -> Response:
    """Raises whatever makes the result unfit to be answered; the platform answers 500 then."""
    if isinstance(result, Response):
        return result
    if isinstance(result, Exception):
        raise result
    if result is None:
        raise ValueError(f"{name} returned nothing")
    return JSONResponse(jsonable_encoder(result))


async def to_error_response(name: str, request: Request, error: BaseException) -> Response:
    _log.error("%s failed", name, exc_info=error)
    if isinstance(error, HTTPException):
        return await http_exception_handler(request, error)
    return PlainTextResponse("Internal Server Error", status_code=500)
