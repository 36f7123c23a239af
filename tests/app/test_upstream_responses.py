"""Odd responses of an upstream, byte by byte, through the whole app."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from shared.upstream.long_response import MOST_PASSED_BYTES
from tests.clock import until
from tests.conftest import Stage, calls_in_log
from tests.responses import WireResponse
from tests.wire import Peer, Wire, scripted_upstream
from tools.simulator import Failure

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
STREAM = b"content-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
HELLO = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
BODY = b'{"choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":7,"completion_tokens":5}}'
Then = Callable[[Peer], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, status: bytes = b"200 OK", headers: bytes = JSON) -> bytes:
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


@asynccontextmanager
async def upstream(stage: Stage, data: bytes, then: Then | None = None) -> AsyncIterator[tuple[str, Wire]]:
    """A model whose deployment responds with these bytes, and then does what `then` does."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(data)
            if then is not None:
                await then(peer)

    async with scripted_upstream(script) as wire:
        yield await stage.add_deployment(endpoint=f"http://127.0.0.1:{wire.port}"), wire


async def response_to(
    stage: Stage, data: bytes, then: Then | None = None, stream: bool = False
) -> WireResponse:
    async with upstream(stage, data, then) as (model, _), asyncio.timeout(20):
        code = await stage.add_event(models=(model,), default_model=model)
        return await stage.chat(code, model=model, stream=stream)


# ---- the end of a stream


async def reset(peer: Peer) -> None:
    peer.reset()


async def close(peer: Peer) -> None:
    peer.writer.close()


async def send_more(peer: Peer) -> None:
    await peer.send(chunk(HELLO + b'data: {"error":{"message":"no"}}\n\n'))
    await peer.until_closed()


async def send_garbage(peer: Peer) -> None:
    await asyncio.sleep(0.05)
    await peer.send(b"zz\r\n\xff")
    await peer.until_closed()


AFTER_DONE: dict[str, tuple[bytes, Then]] = {
    "stays open": (CHUNKED + chunk(HELLO + USAGE + DONE), Peer.until_closed),
    "closes": (CHUNKED + chunk(HELLO + USAGE + DONE), close),
    "resets": (CHUNKED + chunk(HELLO + USAGE + DONE), reset),
    "wrong length, closes": (b"content-length: 9999\r\n\r\n" + HELLO + USAGE + DONE, close),
    "wrong length, stays open": (b"content-length: 9999\r\n\r\n" + HELLO + USAGE + DONE, Peer.until_closed),
    "more in the same piece": (CHUNKED + chunk(HELLO + USAGE + DONE + HELLO), Peer.until_closed),
    "more events": (CHUNKED + chunk(HELLO + USAGE + DONE), send_more),
    "no blank line": (CHUNKED + chunk(HELLO + USAGE + DONE[:-2]), Peer.until_closed),
    "a bad chunk": (CHUNKED + chunk(HELLO + USAGE + DONE), send_garbage),
}


@pytest.mark.parametrize(("data", "then"), AFTER_DONE.values(), ids=AFTER_DONE)
async def test_done_ends_a_stream_whatever_the_upstream_does_after_it(
    stage: Stage, caplog: pytest.LogCaptureFixture, data: bytes, then: Then
) -> None:
    caplog.set_level("INFO", logger="shared.usage.call_log")
    response = await response_to(stage, OK + STREAM + data, then, stream=True)
    assert (response.status, response.body, response.is_cut) == (200, HELLO + DONE, False)
    call = calls_in_log(caplog, stage)[-1]
    assert (call["ending"], call["prompt_tokens"], call["completion_tokens"]) == ("finished", 7, 5)


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_the_connection_of_a_stream_is_kept_if_its_last_chunk_comes_later(
    stage: Stage, pause: float
) -> None:
    async def end(peer: Peer) -> None:
        await asyncio.sleep(pause)
        await peer.send(b"0\r\n\r\n")

    async with upstream(stage, OK + STREAM + CHUNKED + chunk(HELLO + DONE), end) as (model, wire):
        code = await stage.add_event(models=(model,), default_model=model)
        for _ in range(3):
            assert (await stage.chat(code, model=model, stream=True)).body == HELLO + DONE
            await asyncio.sleep(2 * pause + 0.02)
        assert wire.connections == 1


# ---- the type of a response


async def test_a_response_without_a_type_is_json(stage: Stage) -> None:
    response = await response_to(stage, whole(BODY, headers=b""))
    assert (response.headers["content-type"], response.body) == ("application/json", BODY)


async def test_the_type_of_a_stream_is_found_in_any_case(stage: Stage) -> None:
    data = OK + STREAM.replace(b"text/event", b"Text/Event") + CHUNKED + chunk(HELLO + DONE)
    response = await response_to(stage, data, stream=True)
    assert (response.status, response.body) == (200, HELLO + DONE)


# ---- compressed responses


def deflated(data: bytes, bits: int) -> bytes:
    compressor = zlib.compressobj(wbits=bits)
    return compressor.compress(data) + compressor.flush()


ENCODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b" X-GZIP ", gzip.compress),
    "gzip in two members": (b"gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "gzip and zeros": (b"gzip", lambda data: gzip.compress(data) + b"\0" * 9),
    "deflate": (b"deflate", lambda data: deflated(data, zlib.MAX_WBITS)),
    "raw deflate": (b"deflate", lambda data: deflated(data, -zlib.MAX_WBITS)),
    "identity": (b"identity", lambda data: data),
}


@pytest.mark.parametrize(("name", "encode"), ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
async def test_a_compressed_response_is_decompressed(
    stage: Stage, name: bytes, encode: Callable[[bytes], bytes], status: bytes
) -> None:
    body = BODY if status.startswith(b"200") else b'{"error":{"message":"no","code":"x"}}'
    headers = JSON + b"content-encoding: " + name + b"\r\n"
    response = await response_to(stage, whole(encode(body), status, headers))
    assert (response.status, response.body) == (int(status[:3]), body)
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize("name", ["gzip", "deflate"])
async def test_a_compressed_stream_is_decompressed_as_it_arrives(stage: Stage, name: str) -> None:
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS if name == "gzip" else zlib.MAX_WBITS)
    first = compressor.compress(HELLO) + compressor.flush(zlib.Z_SYNC_FLUSH)
    rest = compressor.compress(HELLO + DONE) + compressor.flush()
    shown = asyncio.Event()

    async def continue_later(peer: Peer) -> None:
        await shown.wait()
        await peer.send(chunk(rest) + b"0\r\n\r\n")

    head = OK + STREAM + b"content-encoding: " + name.encode() + b"\r\n" + CHUNKED
    async with upstream(stage, head + chunk(first), continue_later) as (model, _):
        code = await stage.add_event(models=(model,), default_model=model)
        question = {"model": model, "stream": True, "messages": []}
        async with stage.post(json=question, headers={"api-key": f"{code}/ann"}) as response:
            assert await asyncio.wait_for(response.content.readuntil(b"\n\n"), 10) == HELLO
            shown.set()
            assert await response.read() == HELLO + DONE
            assert "content-encoding" not in response.headers


BROKEN = {
    "unknown": (b"zstd", BODY),
    "two": (b"gzip, gzip", gzip.compress(gzip.compress(BODY))),
    "not compressed": (b"gzip", BODY),
    "cut": (b"gzip", gzip.compress(BODY)[:-9]),
    "wrong checksum": (b"gzip", gzip.compress(BODY)[:-8] + bytes(8)),
}


@pytest.mark.parametrize(("name", "body"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
async def test_a_response_that_cannot_be_decompressed_is_a_failure_of_the_deployment(
    stage: Stage, name: bytes, body: bytes, status: bytes
) -> None:
    response = await response_to(stage, whole(body, status, JSON + b"content-encoding: " + name + b"\r\n"))
    assert (response.status, response.error["code"]) == (502, "upstream_error")
    assert (
        response.error["message"] == "The model returned a response that cannot be decompressed. Try again."
    )


async def test_a_stream_in_an_unknown_encoding_is_a_failure_before_its_first_byte(stage: Stage) -> None:
    data = OK + STREAM + b"content-encoding: br\r\n" + CHUNKED + chunk(b"?") + b"0\r\n\r\n"
    response = await response_to(stage, data, stream=True)
    assert (response.status, response.error["code"]) == (502, "upstream_error")


async def send_garbage_in_a_chunk(peer: Peer) -> None:
    await asyncio.sleep(0.05)
    await peer.send(chunk(b"\xff" * 99))
    await peer.until_closed()


async def test_a_stream_that_cannot_be_decompressed_any_further_is_cut(stage: Stage) -> None:
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    first = compressor.compress(HELLO) + compressor.flush(zlib.Z_SYNC_FLUSH)
    data = OK + STREAM + b"content-encoding: gzip\r\n" + CHUNKED + chunk(first)
    response = await response_to(stage, data, send_garbage_in_a_chunk, stream=True)
    assert response.body.startswith(HELLO)
    assert b'"upstream_error"' in response.body
    assert response.is_cut


def bomb(status: bytes) -> bytes:
    """A body of 300 KB that becomes 300 MB."""
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    first = compressor.compress(b'{"x":"') + compressor.flush(zlib.Z_FULL_FLUSH)
    again = compressor.compress(bytes(1024 * 1024)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return whole(first + again * 300, status, JSON + b"content-encoding: gzip\r\n")


async def test_a_small_body_that_becomes_huge_is_cut(stage: Stage) -> None:
    async with upstream(stage, bomb(b"200 OK")) as (model, _):
        code, size = await stage.add_event(models=(model,), default_model=model), 0
        async with stage.post(headers={"api-key": f"{code}/amy"}) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                async for piece in response.content.iter_any():
                    size += len(piece)
    assert response.status == 200 and size <= MOST_PASSED_BYTES


async def test_a_small_error_that_becomes_huge_is_replaced(stage: Stage) -> None:
    response = await response_to(stage, bomb(b"400 Bad Request"))
    assert response.error["code"] == "upstream_error" and not response.is_cut


# ---- long responses


def long_body(content: bytes) -> bytes:
    usage = b'{"prompt_tokens":7,"completion_tokens":5}'
    return b'{"x":{"usage":{}},"choices":[{"message":{"content":"%b"}}],"usage":%b}' % (content, usage)


async def test_a_long_response_is_passed_on_and_charged_as_reported(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="shared.usage.call_log")
    body = long_body(b'\\"usage\\":{\\"prompt_tokens\\":9}' * 200_000)
    response = await response_to(stage, whole(body))
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.body == body
    assert not response.is_cut
    call = calls_in_log(caplog, stage)[-1]
    assert (call["ending"], call["prompt_tokens"], call["completion_tokens"]) == ("finished", 7, 5)


async def test_a_long_response_arrives_before_its_end_was_sent_and_waits_for_its_reader(stage: Stage) -> None:
    sent = 0
    piece = b"x" * 1_000_000

    async def send_on(peer: Peer) -> None:
        nonlocal sent
        for _ in range(50):
            await peer.send(piece)
            sent += 1
        await peer.send(b'"}')

    head = OK + JSON + b"content-length: %d\r\n\r\n" % (8 + 50 * len(piece))
    async with upstream(stage, head + b'{"xyz":"'[:6], send_on) as (model, _), asyncio.timeout(60):
        code = await stage.add_event(models=(model,), default_model=model)
        async with stage.post(
            json={"model": model, "messages": []}, headers={"api-key": f"{code}/ann"}
        ) as got:
            await got.content.readexactly(1_000_000)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 45
            assert len(await got.read()) == 50_000_008 - 1_000_000


@pytest.mark.parametrize("is_reported", [True, False])
async def test_a_long_response_whose_client_leaves_is_charged_as_a_whole(
    stage: Stage, caplog: pytest.LogCaptureFixture, is_reported: bool
) -> None:
    caplog.set_level("INFO", logger="shared.usage.call_log")
    body, client_left = long_body(b"x" * 3_000_000), asyncio.Event()

    async def send_rest(peer: Peer) -> None:
        await client_left.wait()
        await (peer.send(body[-1_000_000:]) if is_reported else close(peer))

    async with upstream(stage, whole(body)[:-1_000_000], send_rest) as (model, _), asyncio.timeout(20):
        code = await stage.add_event(models=(model,), default_model=model)
        body_of_call = {"model": model, "messages": [], "max_tokens": 1_000_000, "n": 50}
        async with stage.post(json=body_of_call, headers={"api-key": f"{code}/ann"}) as got:
            await got.content.readexactly(1_000_000)
            got.close()
        await asyncio.sleep(0.3)  # the proxy notices it
        client_left.set()
        await until(lambda: model in str(calls_in_log(caplog, stage)))
    assert calls_in_log(caplog, stage)[-1]["completion_tokens"] == (5 if is_reported else 50_000_000)


@pytest.mark.parametrize("then", [close, reset])
async def test_a_long_response_that_is_cut_is_cut(
    stage: Stage, caplog: pytest.LogCaptureFixture, then: Then
) -> None:
    caplog.set_level("INFO", logger="shared.usage.call_log")
    body = long_body(b"x" * 3_000_000)
    response = await response_to(stage, whole(body)[:-1_500_000], then)
    assert response.status == 200
    assert response.is_cut
    assert body.startswith(response.body)
    assert calls_in_log(caplog, stage)[-1]["ending"] == "cut"


async def test_a_long_response_that_is_no_json_is_a_failure(stage: Stage) -> None:
    response = await response_to(stage, whole(b"<html>" * 1_000_000))
    assert (response.status, response.error["code"]) == (502, "upstream_error")


async def test_a_long_error_of_the_upstream_is_replaced(stage: Stage) -> None:
    body = b'{"error":{"message":"%b"}}' % (b"x" * 2_000_000)
    async with upstream(stage, whole(body, b"400 Bad Request")) as (model, _):
        code = await stage.add_event(models=(model,), default_model=model)
        for _ in range(2):  # the deployment is not taken out
            response = await stage.chat(code, model=model)
            assert (response.status, response.error["code"]) == (502, "upstream_error")
            assert response.headers["content-type"] == "application/json"
            assert response.error["message"] == (
                "The model returned an error that is too long to be passed on. Send a shorter request."
            )


# ---- odd usage

ODD = [b"{}", b'{"prompt_tokens":0,"completion_tokens":0}', b'{"prompt_tokens":-7,"completion_tokens":5}']


@pytest.mark.parametrize("usage", [*ODD, b'{"prompt_tokens":7,"completion_tokens":99999999999999999999}'])
@pytest.mark.parametrize("stream", [False, True])
async def test_odd_usage_is_estimated_and_never_shown(
    stage: Stage, caplog: pytest.LogCaptureFixture, usage: bytes, stream: bool
) -> None:
    caplog.set_level("INFO", logger="shared.usage.call_log")
    body = json.dumps(json.loads(BODY) | {"usage": json.loads(usage)}).encode()
    events = chunk(HELLO + b'data: {"choices":[],"usage":%b}\n\n' % usage + DONE) + b"0\r\n\r\n"
    data = OK + STREAM + CHUNKED + events if stream else whole(body)
    response = await response_to(stage, data, stream=stream)
    assert response.body == (HELLO + DONE if stream else body)
    call = calls_in_log(caplog, stage)[-1]
    assert 0 < call["prompt_tokens"] + call["completion_tokens"] < 10_000  # an estimate, or the output limit


@pytest.mark.parametrize("code", ["{}", "[]", "null", "404", '{"code":"404"}'])
async def test_a_404_whose_code_is_no_text_is_passed_on(stage: Stage, code: str) -> None:
    body = b'{"error":{"message":"No.","code":%b}}' % code.encode()
    model = await stage.add_deployment()
    event = await stage.add_event(models=(model,), default_model=model)
    stage.simulator.behave(model, Failure(404, body))
    response = await stage.chat(event)
    assert (response.status, response.body) == (404, body)
