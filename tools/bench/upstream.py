"""`python -m tools.bench.upstream PORT`: an upstream that costs next to nothing.

It sends one fixed chat completion, or a stream of 100 chunks. Streams go at full speed, one write for each
chunk. With "every N ms" in the prompt they are paced, and each chunk carries the time when it was written
(`perf_counter`, which all processes of one machine share). "after N ms" delays a whole response.
"""

import asyncio
import re
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Final, cast

import httptools

from tools import loops

CHUNKS: Final = 100
TIME: Final = re.compile(rb'"content":" at (\d+\.\d+)"')

_USAGE: Final = b'"usage":{"prompt_tokens":58,"completion_tokens":100,"total_tokens":158}'
_MODEL: Final = b'"created":1750000000,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_efad92c60b"'
_ANSWER: Final = (
    b'{"id":"chatcmpl-bench","object":"chat.completion",' + _MODEL + b',"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"A glove box keeps what is inside apart from the air. " * 8 + b'"},'
    b'"finish_reason":"stop","logprobs":null,"content_filter_results":{"hate":{"filtered":false,"severity":'
    b'"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},'
    b'"violence":{"filtered":false,"severity":"safe"}}}],' + _USAGE + b"}"
)
_PLAIN: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: bench\r\napim-request-id: bench\r\n"
    b"x-ratelimit-remaining-requests: 999\r\ncontent-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
)
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: bench\r\n"
    b"apim-request-id: bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_EVENT: Final = b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk",' + _MODEL
_CHUNK: Final = (
    _EVENT + b',"choices":[{"index":0,"delta":{"content":" at %f"},"finish_reason":null,"logprobs":null,'
    b'"content_filter_results":{}}]%b}\n\n'
)
_LAST: Final = _EVENT + b',"choices":[],%b}\n\n'
_EVERY: Final = re.compile(rb"every (\d+) ms")
_AFTER: Final = re.compile(rb"after (\d+) ms")


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _end(*, usage: bool) -> bytes:
    return (_frame(_LAST % _USAGE) if usage else b"") + _frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"


_FULL_SPEED: Final = {usage: _frame(_CHUNK % (0, b',"usage":null' * usage)) for usage in (False, True)}
_ENDS: Final = {usage: _end(usage=usage) for usage in (False, True)}


class _Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if b'"stream":true' not in body:
            if after := _AFTER.search(body):
                self._loop.call_later(int(after[1]) / 1000, self._transport.write, _PLAIN)
            else:
                self._transport.write(_PLAIN)
            return
        self._usage = b'"include_usage":true' in body
        self._left = CHUNKS
        self._transport.write(_HEAD)
        if every := _EVERY.search(body):
            self._pace(int(every[1]) / 1000, self._loop.time())
        else:
            self._loop.call_soon(self._hurry)

    def _hurry(self) -> None:
        self._write(_FULL_SPEED[self._usage], lambda: self._loop.call_soon(self._hurry))

    def _pace(self, seconds: float, at: float) -> None:
        frame = _frame(_CHUNK % (perf_counter(), b',"usage":null' * self._usage))
        again = at + seconds
        self._write(frame, lambda: self._loop.call_at(again, self._pace, seconds, again))

    def _write(self, frame: bytes, go_on: Callable[[], object]) -> None:
        if self._transport.is_closing():
            return
        self._left -= 1
        self._transport.write(frame if self._left else frame + _ENDS[self._usage])
        if self._left:
            go_on()


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(loop), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loops.new) as runner:
        runner.run(main(int(sys.argv[1])))
