"""The requests that the fuzzer sends."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import strategies as st

MODEL, CREDENTIAL = "MODEL-OF-CALL", "CREDENTIAL-OF-CALL"
"""Stand for the model and the credential of a call, which the test fills in."""

T = TypeVar("T")


@dataclass(frozen=True)
class FuzzedRequest:
    """One request of a client."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    framing: str
    leaves: str
    """When the client leaves: at the "end" of the response, or when its request is "sent" or the response "begun"."""

    @property
    def must_have_response(self) -> bool:
        return self.leaves == "end" and self.framing in {"length", "chunked"}

    def data(self, model: str, credential: str) -> bytes:
        """The bytes of the request."""
        body = self.body.replace(MODEL.encode(), model.encode())
        length, chunked = b"content-length: %d", b"transfer-encoding: chunked"
        framing = {
            "length": length % len(body),
            "chunked": chunked,
            "short": length % (len(body) + 7),
            "long": length % max(0, len(body) - 7),
            "both": length % len(body) + b"\r\n" + chunked,
            "twice": length % len(body) + b"\r\n" + length % (len(body) + 1),
            "none": b"x-none: 1",
        }[self.framing]
        if self.framing in {"chunked", "both"}:
            parts = (body[at : at + 1000] for at in range(0, len(body), 1000))
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        path = self.path.replace(MODEL, model)
        lines = [f"{self.method} {path} HTTP/1.1", "host: test", "connection: close"]
        lines += [f"{name}: {value.replace(CREDENTIAL, credential)}" for name, value in self.headers]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n" + framing + b"\r\n\r\n" + body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
).map(json.dumps)
_NUMBERS = '1 128 129 0 -1 -0 1.5 1e3 1e400 -1e-400 00 NaN 9223372036854775808 true null [] {} "3"'
NUMBERS = st.sampled_from([*_NUMBERS.split(), "9" * 400])
_TEXTS = r""""\ud83d" "\ud83d\ude00" "\u0000" "\/\b\f" "<|endoftext|>" "\x" " """
TEXTS = st.text(max_size=20).map(json.dumps) | st.sampled_from([*_TEXTS.split(), '"caf\u00e9 \u202e\ufeff"'])
_DATA = r"iVBORw0KGgo= R0lGODlhAQABAAAAACw= _-_- \/9j\/4AAQ \u002B\u003d %%%"
DATA = st.sampled_from([*_DATA.split(), "", "AAAA" * 3000])
MEDIA = st.sampled_from(
    [
        '{"type":"image_url","image_url":{"url":"data:image/png;base64,DATA","detail":"low"}}',
        '{"type":"image_url","image_url":{"url":"data:;BASE64,DATA","detail":7}}',
        '{"type":"image_url","image_url":"https://example.org/DATA"}',
        '{"type":"input_audio","input_audio":{"data":"DATA","format":"wav"}}',
        '{"type":"file","file":{"file_data":"data:application/pdf;base64,DATA","filename":null}}',
        '{"type":"text","text":"data:image/png;base64,DATA"}',
        '{"type":"refusal"}',
        '{"image_url":{"url":{"url":["DATA"]}}}',
        '{"type":["text"]}',
    ]
)
PARTS = st.builds(lambda form, data: form.replace("DATA", data), MEDIA, DATA)
CONTENTS = TEXTS | JSON | st.lists(PARTS, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
ROLES = st.sampled_from(['"user"', '"system"', '"tool"', '"assistant"', "7", "null"])
MESSAGES = st.lists(st.builds('{{"role":{},"content":{}}}'.format, ROLES, CONTENTS), min_size=1, max_size=3)
DEPTHS = st.builds(
    lambda pair, depth: pair[0] * depth + "1" + pair[1] * depth,
    st.sampled_from([("[", "]"), ('{"a":', "}"), ('{"messages":[', "]}")]),
    st.sampled_from([3, 90, 600, 1100, 5000]),
)
ANY_VALUE = NUMBERS | TEXTS | JSON | DEPTHS
GOOD_MEMBERS = {
    "stream": st.sampled_from(["true", "false", "null"]),
    "stream_options": st.sampled_from(['{"include_usage":true}', '{"include_usage":false}', "null", "{}"]),
    "max_tokens": st.sampled_from(["1", "5", "700", "100000"]),
    "max_completion_tokens": st.sampled_from(["1", "5", "700"]),
    "n": st.sampled_from(["1", "2", "5"]),
    "temperature": st.just("0.5"),
    "stop": st.sampled_from(['"x"', '["x","y"]']),
    "user": st.text(max_size=20).map(json.dumps),
}
NAMES = st.sampled_from(
    [*GOOD_MEMBERS, "model", "messages", "tools", "functions", "prediction", "m\\u006fdel", ""]
)

ENCODINGS: list[Callable[[bytes], bytes]] = [*[bytes] * 20, gzip.compress, zlib.compress]


@st.composite
def bodies(draw: st.DrawFn, kinds: tuple[str, ...]) -> bytes:
    """A valid body for the kind "good", else one with other messages, members or bytes."""
    question = '[{"role":"user","content":"Tell me about glove boxes."}]'
    members = [("model", f'"{MODEL}"'), ("messages", question)]
    for name in draw(st.lists(st.sampled_from(list(GOOD_MEMBERS)), max_size=4, unique=True)):
        members.append((name, draw(GOOD_MEMBERS[name])))
    kind = draw(st.sampled_from(kinds))
    if kind == "messages":
        members[1] = ("messages", f"[{','.join(draw(MESSAGES))}]")
    if kind == "members":
        members += draw(st.lists(st.tuples(NAMES, ANY_VALUE), min_size=1, max_size=3))
    members = draw(st.permutations(members))
    space = draw(st.sampled_from(["", "", " ", "\r\n\t"]))
    text = f",{space}".join(f'"{name}":{space}{value}' for name, value in members)
    body = f"{{{text}}}".encode("utf-8", "surrogatepass")
    if kind == "random":
        return draw(
            st.binary(max_size=60) | ANY_VALUE.map(lambda value: value.encode("utf-8", "surrogatepass"))
        )
    if kind == "bytes":
        at, junk = draw(st.integers(0, len(body))), draw(st.binary(min_size=1, max_size=3))
        body = body[:at] + junk + body[at + draw(st.integers(0, 2)) :]
    if kind == "cut":
        body = body[: draw(st.integers(0, len(body)))]
    return body if kind == "good" else draw(st.sampled_from(ENCODINGS))(body)


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
CREDENTIALS = st.sampled_from(
    [("api-key", CREDENTIAL), ("openai-event-code", CREDENTIAL), ("Authorization", f"Bearer {CREDENTIAL}")]
)
ODD_CREDENTIALS = CREDENTIALS | st.sampled_from(
    [
        ("api-key", f" {CREDENTIAL}\t"),
        ("authorization", f"bEARER  {CREDENTIAL}"),
        ("authorization", f"Basic {CREDENTIAL}"),
        ("api-key", f"{CREDENTIAL}/x"),
        ("api-key", f"{CREDENTIAL}, {CREDENTIAL}"),
        ("api-key", "no-event/anna"),
        ("api-key", "x' or 1/anna"),
        ("api-key", "x" * 600),
        ("api-key", "/"),
        ("x-none", ""),
    ]
)
_ODD_NAMES = (
    "api-key traceparent tracestate content-type accept accept-encoding content-encoding cookie range te "
    "origin x-ms-client-request-id x-ms-invocation-id expect upgrade x-forwarded-for if-none-match"
)
ODD_NAMES = st.sampled_from(_ODD_NAMES.split())
_ODD_VALUES = (
    "gzip br 100-continue h2c */* text/plain ../.. %0d%0a a=1,b=2 123e4567-e89b-12d3-a456-426614174000 "
    "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01 application/json;charset=utf-16"
)
ODD_VALUES = PRINTABLE | st.sampled_from([*_ODD_VALUES.split(), "\t", "x" * 5000])
HEADERS = st.tuples(
    ODD_CREDENTIALS, st.lists(st.tuples(ODD_NAMES, ODD_VALUES) | ODD_CREDENTIALS, max_size=3)
).map(lambda drawn: (drawn[0], *drawn[1]))
CHAT = "/v1/chat/completions"
CHAT_PATHS = (
    f"/api{CHAT} /v1/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21 "
    f"/v1/deployments/{MODEL}/chat/completions /v1/openai/v1/chat/completions /V1/Chat/Completions/ "
)
OTHER_PATHS = (
    f"/{CHAT} /v1//chat/completions {CHAT}%2f /v1/./chat/../chat/completions /chat/completions {CHAT}?a=%00&a "
    f"/v1/models /v1/models/{MODEL} /v1/models/%E2%80%AE /v1/models?api-key=x http://other/v1/models /v1/event "
    f"/v1/embeddings /v1/responses / /readyz /healthz /% /%00 /%ff%fe * /{'a' * 9000} "
    "/v1/deployments/%22%0d%0a/chat/completions"
)
PATHS = st.sampled_from([CHAT, *CHAT_PATHS.split(), *OTHER_PATHS.split()])
METHODS = st.sampled_from(
    [
        "POST",
        "POST",
        "POST",
        "POST",
        "GET",
        "GET",
        "PUT",
        "PATCH",
        "DELETE",
        "HEAD",
        "OPTIONS",
        "TRACE",
        "BREW",
    ]
)
FRAMINGS = st.sampled_from(["short", "long", "both", "twice", "none"])


@st.composite
def requests(draw: st.DrawFn) -> FuzzedRequest:
    """A usual request, or one that is odd in one of its parts or in all."""
    odd = draw(st.sampled_from(["", "", "", "", "headers", "path", "body", "body", "body", "framing", "all"]))

    def part(name: str, usual: st.SearchStrategy[T], any_form: st.SearchStrategy[T]) -> T:
        return draw(any_form if odd in {name, "all"} else usual)

    return FuzzedRequest(
        part("path", st.just("POST"), METHODS),
        part("path", st.sampled_from([CHAT, *CHAT_PATHS.split()]), PATHS),
        part("headers", st.tuples(CREDENTIALS), HEADERS),
        part("body", bodies(("good",)), bodies(("messages", "members", "members", "bytes", "cut", "random"))),
        part("framing", st.sampled_from(["length", "length", "chunked"]), FRAMINGS),
        leaves=draw(st.sampled_from(["end"] * 8 + ["sent", "begun"])),
    )
