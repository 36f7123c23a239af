"""Carries out a plan on the socket, piece by piece."""

import asyncio
import socket
import struct
import sys

from aiohttp import web

from .journal import Entry
from .plans import Ending, Plan

_LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # closing then sends RST, not FIN
_BODILESS = (204, 304)
_TYPED = web.ResponseKey("typed", bool)


async def send(request: web.BaseRequest, plan: Plan, entry: Entry) -> web.StreamResponse:
    """Raises ConnectionError or CancelledError when the client has left."""
    if plan.ending == "reset" and request.transport is not None:
        request.transport.set_write_buffer_limits(high=0)  # so that drain() waits for the last byte
    await _before_headers(plan, entry)
    response = _response(plan)
    if plan.status is None:
        _send_bare(request, plan, entry)
    else:
        await response.prepare(request)
        entry.note(status=plan.status)
        if plan.gate is not None:
            plan.gate.after_headers(entry)
        await _send_pieces(request, response, plan, entry)
    await _end(request, response, plan.ending, entry)
    return response


async def strip_headers(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Take out what aiohttp adds: the server's name always, the content type where the plan has none."""
    response.headers.pop("Server", None)
    if not response.get(_TYPED, True):
        response.headers.pop("Content-Type", None)


def _response(plan: Plan) -> web.StreamResponse:
    response = web.StreamResponse(status=plan.status or 200)
    for name, value in plan.headers:
        response.headers.add(name, value)
    response[_TYPED] = "content-type" in response.headers
    if plan.length is not None and "content-length" not in response.headers:
        response.content_length = plan.length
    return response


async def _before_headers(plan: Plan, entry: Entry) -> None:
    if plan.headers_seconds:
        await asyncio.sleep(plan.headers_seconds)
    if plan.gate is not None:
        await plan.gate.before_headers(entry)


async def _send_pieces(
    request: web.BaseRequest, response: web.StreamResponse, plan: Plan, entry: Entry
) -> None:
    bodiless = request.method == "HEAD" or plan.status in _BODILESS
    for number, piece in enumerate(() if bodiless else plan.pieces, start=1):
        await _before_piece(plan, number)
        await response.write(piece.data)
        entry.sent(piece)
        if plan.gate is not None:
            plan.gate.after_piece(entry, number)


async def _before_piece(plan: Plan, number: int) -> None:
    pause = plan.pause_seconds if plan.pause_after and number == plan.pause_after + 1 else 0.0
    between = plan.between_seconds if number > 1 else 0.0
    if plan.length is None or pause or between:
        await asyncio.sleep(pause + between)  # of 0 seconds, too: each event reaches the socket by itself
    if plan.gate is not None:
        await plan.gate.before_piece(number)


def _send_bare(request: web.BaseRequest, plan: Plan, entry: Entry) -> None:
    for piece in plan.pieces:
        if request.transport is not None:
            request.transport.write(piece.data)
        entry.sent(piece)


async def _end(request: web.BaseRequest, response: web.StreamResponse, ending: Ending, entry: Entry) -> None:
    if ending == "clean":
        await response.write_eof()
        entry.note(finished=True)
        return
    if ending == "reset":
        await request.writer.drain()
    entry.note(finished=True)
    _close(request.transport, ending)


def _close(transport: asyncio.Transport | None, ending: Ending) -> None:
    """`close` sends what is in the buffer, then FIN; `reset` sends RST."""
    if transport is None:
        return
    if ending == "reset":
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    else:
        transport.close()
