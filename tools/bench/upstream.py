"""`python -m tools.bench.upstream PORT`: an upstream that costs next to nothing.

It sends one fixed chat completion, or a stream of 100 chunks, of chat or of the Responses API. Streams go at
full speed, one write for each chunk. With "every N ms" in the prompt, those of chat are paced, and each chunk
carries the time when it was written (`perf_counter`, which all processes of one machine share). "after N ms"
delays a whole response.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, NamedTuple, cast

import httptools

from tools import loops

CHUNKS: Final = 100
USAGE_AT_END: Final = b'"usage":{"input_tokens":58,"output_tokens":100,"total_tokens":158}}}\n\n'
"""The end of a stream of the Responses API."""
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


class _Stream(NamedTuple):
    begin: bytes
    chunk: bytes
    end: bytes


def _chat(*, usage: bool) -> _Stream:
    end = (_frame(_LAST % _USAGE) if usage else b"") + _frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return _Stream(b"", _frame(_CHUNK % (0, b',"usage":null' * usage)), end)


def _responses() -> _Stream:
    """In Azure's order of events, with its members that a proxy may read."""
    response = {"id": "resp_bench", "object": "response", "created_at": 1750000000, "model": "gpt-4o-mini"}
    item = {"id": "msg_bench", "type": "message", "role": "assistant"}
    text = {"type": "output_text", "annotations": [], "logprobs": [], "text": " at 0.000000" * CHUNKS}
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    delta = {"logprobs": [], "delta": " at 0.000000", "obfuscation": "WfR50R"}
    whole = {**item, "status": "completed", "content": [text]}
    usage = {"input_tokens": 58, "output_tokens": 100, "total_tokens": 158}

    opening = {"response": {**response, "status": "in_progress", "output": [], "usage": None}}
    begin = [_typed("created", 0, opening), _typed("in_progress", 1, opening)]
    added = {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}
    begin += [_typed("output_item.added", 2, added), _typed("content_part.added", 3, {**where, "part": text})]
    end = [_typed("output_text.done", 104, {**where, "text": text["text"]})]
    end += [_typed("content_part.done", 105, {**where, "part": text})]
    end += [_typed("output_item.done", 106, {"output_index": 0, "item": whole})]
    completed = {**response, "status": "completed", "output": [whole], "usage": usage}
    end += [_typed("completed", 107, {"response": completed}), b"0\r\n\r\n"]
    return _Stream(b"".join(begin), _typed("output_text.delta", 4, {**where, **delta}), b"".join(end))


def _typed(kind: str, number: int, members: dict[str, Any]) -> bytes:
    data = {"type": f"response.{kind}", "sequence_number": number, **members}
    text = json.dumps(data, separators=(",", ":"))
    return _frame(f"event: response.{kind}\ndata: {text}\n\n".encode())


_WITHOUT_USAGE, _WITH_USAGE, _RESPONSES = _chat(usage=False), _chat(usage=True), _responses()


def _stream(body: bytes) -> _Stream:
    if b'"input":' in body:
        return _RESPONSES
    return _WITH_USAGE if b'"include_usage":true' in body else _WITHOUT_USAGE


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
        self._stream = _stream(body)
        self._left = CHUNKS
        self._transport.write(_HEAD + self._stream.begin)
        if every := _EVERY.search(body):
            self._pace(int(every[1]) / 1000, self._loop.time())
        else:
            self._loop.call_soon(self._hurry)

    def _hurry(self) -> None:
        self._write(self._stream.chunk, lambda: self._loop.call_soon(self._hurry))

    def _pace(self, seconds: float, at: float) -> None:
        frame = _frame(_CHUNK % (perf_counter(), b',"usage":null' * (self._stream is _WITH_USAGE)))
        again = at + seconds
        self._write(frame, lambda: self._loop.call_at(again, self._pace, seconds, again))

    def _write(self, frame: bytes, go_on: Callable[[], object]) -> None:
        if self._transport.is_closing():
            return
        self._left -= 1
        self._transport.write(frame if self._left else frame + self._stream.end)
        if self._left:
            go_on()


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(loop), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loops.new) as runner:
        runner.run(main(int(sys.argv[1])))
