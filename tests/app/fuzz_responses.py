"""The responses of the fuzzer's upstream."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Literal

from hypothesis import strategies as st

from tests.app.fuzz_requests import DEPTHS, JSON, PRINTABLE, TEXTS
from tools.simulator import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    Failure,
    FilteredPrompt,
    Garbage,
    RateLimited,
    Raw,
    RawSocket,
    RawStream,
    ResetBeforeHeaders,
    StreamError,
    TooLong,
    WrongType,
)

USAGES = st.sampled_from(
    [
        '{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}',
        '{"prompt_tokens":null,"completion_tokens":null}',
        '{"prompt_tokens":-7,"completion_tokens":5}',
        '{"prompt_tokens":1e400,"completion_tokens":5.5}',
        '{"prompt_tokens":"7","completion_tokens":true}',
        '{"prompt_tokens":99999999999999999999999999,"completion_tokens":9223372036854775807}',
        '{"prompt_tokens":7,"prompt_tokens":8,"completion_tokens":[]}',
        '{"completion_tokens_details":{"reasoning_tokens":-5}}',
        "{}",
        "[]",
        "null",
        "0",
        '"x"',
    ]
)
ERRORS = st.sampled_from(
    ["null", "{}", "[]", '"x"', '{"message":null}', '{"message":["x"],"code":{}}', "7"]
) | st.builds(
    '{{"message":"{}","type":"x","param":{},"code":{}}}'.format,
    st.sampled_from(["No.", "Unrecognized request argument supplied: max_tokens", "\\ud800"]),
    st.sampled_from(["null", '"max_tokens"', '"stream_options"', '"max_completion_tokens"', "[1]"]),
    st.sampled_from(
        ["null", '"unsupported_parameter"', '"insufficient_quota"', '"DeploymentNotFound"', "404"]
    ),
)
CHOICES = st.sampled_from(
    [
        '[{"index":0,"delta":{"content":"caf\u00e9"}}]',
        '[{"index":0,"message":{"content":"Hi"}}]',
        '[{"index":"0","delta":{"content":["x"]},"finish_reason":"stop"}]',
        '[{"delta":null}]',
        "[null]",
        "[]",
        "null",
        "{}",
        "7",
    ]
)


@st.composite
def objects(draw: st.DrawFn) -> str:
    """A completion, a chunk or an error, of the usual form or not."""
    values = {"choices": CHOICES, "usage": USAGES, "error": ERRORS, "id": TEXTS, "model": JSON}
    names = draw(st.lists(st.sampled_from([*values, "choices", "usage"]), max_size=4))
    return "{" + ",".join(f'"{name}":{draw(values[name])}' for name in names) + "}"


PAYLOADS = (
    objects()
    | objects()
    | objects()
    | JSON
    | DEPTHS
    | TEXTS
    | st.sampled_from(["", " ", "[DONE]", "{not json"])
)
_LINES = "data: [DONE]|data:[DONE]|: ping|event: error|id: 7|retry: x|data|data:|\ufeffdata: {}|\x00"
LINES = st.builds("data: {}".format, PAYLOADS) | st.sampled_from(_LINES.split("|"))
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def event_streams(draw: st.DrawFn) -> bytes:
    """A stream of server-sent events, that may be cut at any byte."""
    end, lines = draw(LINE_ENDS), draw(st.lists(LINES, max_size=6))
    text = "".join(line + end + (end if draw(st.integers(0, 5)) else "") for line in lines)
    text += draw(
        st.sampled_from([f"data: [DONE]{end}{end}"] * 3 + ["", f"data: [DONE]{end}{end}data: {{}}{end}{end}"])
    )
    data = text.encode("utf-8", "surrogatepass")
    data += draw(st.binary(max_size=3)) if draw(st.integers(0, 9)) == 0 else b""
    return data if draw(st.integers(0, 3)) else data[: draw(st.integers(0, len(data)))]


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate ": lambda data: zlib.compress(data)[2:-4],
    "GZIP": lambda data: gzip.compress(data)[:-5],
    "identity": bytes,
    "br": bytes,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    "": bytes,
}
STATUSES = st.sampled_from(
    [200] * 8 + [400] * 4 + [401, 404, 429, 500, 201, 204, 205, 299, 304, 302, 403, 408, 422, 503, 599]
)
CONTENT_TYPES = st.sampled_from(
    ["application/json"] * 3
    + ["text/event-stream"] * 3
    + [
        "text/event-stream; charset=utf-8",
        "text/html",
        "",
        "TEXT/EVENT-STREAM",
        "application/octet-stream",
    ]
)
RETURNED = st.sampled_from(
    ["x-request-id", "apim-request-id", "openai-processing-ms", "x-ms-client-request-id"]
)
DELAYS = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-ratelimit-reset-requests"]
)
ENDINGS: list[Literal["clean", "close", "reset"]] = ["clean", "clean", "close", "reset"]
SECONDS = PRINTABLE | st.sampled_from(
    ["0", "-1", "1e400", "nan", "inf", "1m2s", "Wed, 21 Oct 2037 07:28:00 GMT", "9" * 500]
)


@st.composite
def responses(draw: st.DrawFn, secret: str) -> Behaviour:
    """Any response. `secret` is where no client may see it: in other headers, and in bodies that are replaced."""
    events, kind = draw(st.booleans()), draw(CONTENT_TYPES)
    form = draw(st.sampled_from(["whole", "whole", "pieces", "socket", *(["pieces"] * 2 if events else [])]))
    status = 200 if form == "pieces" else draw(STATUSES)
    headers = {"content-type": kind} if kind else {}
    headers |= draw(st.dictionaries(RETURNED, PRINTABLE, max_size=2))
    headers |= draw(st.dictionaries(DELAYS, SECONDS, max_size=2))
    headers |= {"x-ms-region": secret, "set-cookie": secret, "location": secret, "www-authenticate": secret}
    body = draw(event_streams()) if events else draw(PAYLOADS).encode("utf-8", "surrogatepass")
    if status >= 500 or status in {401, 403, 429}:
        body = json.dumps(
            {"error": {"message": secret, "code": draw(st.sampled_from(["x", "429", None]))}}
        ).encode()
    if not draw(st.integers(0, 3)):
        coding = draw(st.sampled_from(list(CODINGS)))
        headers["content-encoding"], body = coding.strip(), CODINGS[coding](body)
    if form == "whole":
        return Raw(status, headers, body)
    if form == "pieces":
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=5)))
        pieces = (body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True))
        ending = draw(st.sampled_from(ENDINGS))
        return RawStream(tuple(filter(None, pieces)), headers, ending)
    return RawSocket(draw(_on_socket(status, headers, body)))


@st.composite
def _on_socket(draw: st.DrawFn, status: int, headers: dict[str, str], body: bytes) -> bytes:
    """A response with wrong lengths, repeated or malformed headers, or cut at any byte."""
    size = len(body)
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    framing, content = draw(
        st.sampled_from(
            [
                (f"content-length: {size}", body),
                (f"content-length: {size + 9}", body),
                (f"content-length: {size // 2}", body),
                (f"content-length: {size}\r\ncontent-length: {size + 1}", body),
                ("content-length: -1", body),
                ("transfer-encoding: chunked", chunk),
                ("transfer-encoding: chunked", chunk[:-5]),
                ("transfer-encoding: chunked", b"zz\r\n" + body),
                (f"transfer-encoding: chunked\r\ncontent-length: {size}", chunk),
                ("x-none: 1", body),
            ]
        )
    )
    odd = draw(
        st.sampled_from(
            [
                "",
                "",
                "x: \xe9",
                "no colon",
                "x-request-id: a\r\nx-request-id: b",
                ": x",
                "x-request-id: \xff",
                "x-request-id: \x7f",
            ]
        )
    )
    first = draw(
        st.sampled_from(
            [f"HTTP/1.1 {status} OK"] * 6
            + [f"HTTP/1.0 {status}", "HTTP/1.1 20", f"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 {status} OK"]
        )
    )
    lines = [first, *(f"{name}: {value}" for name, value in headers.items()), *filter(None, [odd]), framing]
    data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content
    return data if draw(st.integers(0, 3)) else data[: draw(st.integers(0, len(data)))]


USUAL: list[Behaviour] = [
    Answer(),
    Answer(report_usage=False),
    FilteredPrompt(),
    TooLong(),
    RateLimited(retry_after_ms="1e9", retry_after="x"),
    *map(Failure, (400, 401, 404, 408, 422, 500, 503)),
    ResetBeforeHeaders("close"),
    ResetBeforeHeaders("reset"),
    CutBody("close"),
    CutBody("reset"),
    CutStream(0, "clean"),
    CutStream(2, "reset"),
    StreamError(0),
    StreamError(3),
    Garbage(),
    WrongType(),
    RawSocket(),
    RawSocket(b""),
]


def behaviours(secret: str) -> st.SearchStrategy[Behaviour]:
    """Usual and odd responses. `secret` is where no client may see it."""
    return responses(secret) | responses(secret) | st.sampled_from(USUAL)
