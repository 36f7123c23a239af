"""Every response of the table service has its meaning, or means that the service is unavailable. None is a bug."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from shared.core.counts import Counts, UsageRow
from shared.core.errors import StoreUnavailable
from shared.core.models import Deployment, Health
from shared.quota.ledger_row import Conflict, Key, LedgerRow
from shared.tables.retention import Retention
from shared.tables.service import USAGE
from shared.tables.tables import Tables
from tests.tables.raw_tables import JSON, answer, answering

KEY = Key("hackathon", "amy:2026-01-31")
DEPLOYMENT = Deployment("gpt-4o", "one", "https://one.example", "gpt-4o")
HOUR = datetime(2026, 12, 1, 9, tzinfo=UTC)
TAG = 'W/"1"'


async def partitions(tables: Tables) -> list[str]:
    return [code async for code in tables.row_keys.partitions(USAGE)]


async def pages(tables: Tables) -> list[object]:
    return [page async for page in tables.row_keys.pages(USAGE, "hackathon", "2026")]


OPERATIONS: dict[str, Callable[[Tables], Awaitable[object]]] = {
    "event": lambda tables: tables.event("hackathon"),
    "event_codes": lambda tables: tables.event_codes(),
    "deployments": lambda tables: tables.deployments(),
    "check": lambda tables: tables.check(),
    "read": lambda tables: tables.read_ledger(KEY),
    "create": lambda tables: tables.write_ledger(KEY, LedgerRow()),
    "update": lambda tables: tables.write_ledger(KEY, LedgerRow(version=TAG)),
    "health": lambda tables: tables.write_health(DEPLOYMENT, Health(HOUR, "ok")),
    "usage": lambda tables: tables.write_usage(
        [UsageRow("hackathon", HOUR, "amy", "gpt-4o", Counts(1))], "w"
    ),
    "partitions": partitions,
    "pages": pages,
    "delete": lambda tables: tables.row_keys.delete(USAGE, "hackathon", ["a", "b"]),
}

PART = (
    b"--b\r\ncontent-type: multipart/mixed; boundary=c\r\n\r\n--c\r\ncontent-type: application/http\r\n\r\n"
)
END = b"\r\n\r\n\r\n--c--\r\n--b--\r\n"
MIXED = b"content-type: multipart/mixed; boundary=b"
HTML, XML, TEXT = b"content-type: text/html", b"content-type: application/xml", b"content-type: text/plain"
BODIES = (
    b"",
    b"hello",
    b"{}",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b'{"value": {}}',
    b'{"value": null}',
    b'{"value": [1]}',
    b'{"value": [{"PartitionKey": "x", "Timestamp": "soon"}]}',
    b'{"PartitionKey": "hackathon", "RowKey": "event"}',
    b'{"odata.error": 1}',
    b'{"odata.error": {"message": 1}}',
    b'{"x@odata.type": "Edm.Int64", "x": "many"}',
    b'{"x@odata.type": "Edm.DateTime", "x": 5}',
    b"\xff\xfe",
    b'{"a":' + b"[" * 100_000,
    b'{"requests_granted": 1, "tokens_granted": 1, "requests_used": 1, "tokens_used": 1}',
)
STATUSES = (
    100,
    199,
    204,
    206,
    299,
    302,
    304,
    307,
    400,
    401,
    403,
    404,
    405,
    408,
    410,
    412,
    413,
    429,
    500,
    503,
)


def error(status: int, code: str) -> bytes:
    body = b'{"odata.error": {"code": "%s", "message": {"lang": "en", "value": "No."}}}' % code.encode()
    return answer(status, body, JSON)


UNAVAILABLE: dict[str, bytes] = {
    **{f"200 {body[:40]!r}": answer(200, body, JSON) for body in BODIES},
    **{f"400 {body[:40]!r}": answer(400, body, JSON) for body in BODIES},
    **{f"{status} empty": answer(status) for status in STATUSES if status != 204},
    **{
        f"{status} page": answer(status, b"<html>", HTML) for status in (*STATUSES, 502, 999) if status != 204
    },
    "200 text": answer(200, b"hello", TEXT),
    "200 XML": answer(200, b"<rows/>", XML),
    "200 cut XML": answer(200, b"<rows", XML),
    "200 without a type": answer(200, b'{"value": []}'),
    "200 in an unknown charset": answer(200, b"{}", b"content-type: application/json; charset=odd"),
    "200 cut": answer(200, b'{"value": [', JSON, length=100),
    "200 that is no gzip": answer(200, b'{"value": []}', JSON, b"content-encoding: gzip"),
    "202 empty": answer(202),
    "202 JSON": answer(202, b"{}", JSON),
    "202 without parts": answer(202, b"", MIXED),
    "202 without a boundary": answer(202, PART + b"HTTP/1.1 204 X" + END, b"content-type: multipart/mixed"),
    "202 cut": answer(202, PART[:30], MIXED),
    "202 with an odd part": answer(202, PART + b"HTTP/1.1 odd" + END, MIXED),
    "302 to an odd address": answer(302, b"", b"location: http://["),
    "302 in circles": answer(302, b"", b"location: /"),
    "307 to another host": answer(307, b"", b"location: http://127.0.0.1:1/"),
    "404 TableNotFound": error(404, "TableNotFound"),
    "404 of unknown code": error(404, "Odd"),
    "503 busy": error(503, "ServerBusy"),
    "503 with an odd retry-after": answer(503, b"", b"retry-after: soon"),
    "connection closed": b"",
    "not HTTP": b"hello\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-",
    "cut chunk": b'HTTP/1.1 200 OK\r\n%s\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"va' % JSON,
    "odd chunk": b"HTTP/1.1 200 OK\r\n%s\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}" % JSON,
}
IGNORES_404 = {"health", "delete"}
"""What no longer exists needs no change."""


async def outcome(operation: str, tables: Tables) -> object:
    try:
        return await OPERATIONS[operation](tables)
    except (StoreUnavailable, Conflict) as error:
        return StoreUnavailable if isinstance(error, StoreUnavailable) else Conflict


@pytest.mark.parametrize("name", UNAVAILABLE)
async def test_response_without_a_meaning_is_an_outage_of_every_operation(name: str) -> None:
    async with answering(UNAVAILABLE[name]) as tables:
        for operation in OPERATIONS:
            if name.startswith("404") and operation in IGNORES_404:
                continue
            assert await outcome(operation, tables) is StoreUnavailable, operation


@pytest.mark.parametrize("name", UNAVAILABLE)
async def test_retention_ends_normally_at_every_response(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with answering(UNAVAILABLE[name]) as tables:
        await Retention(tables, 90, 30, lambda: datetime.now(UTC)).remove_old_rows()
    assert "the tables are unavailable, the next run continues" in caplog.text


MEANINGS: list[tuple[str, bytes, object]] = [
    ("event", error(404, "ResourceNotFound"), None),
    ("event", error(404, "EntityNotFound"), None),
    ("read", error(404, "ResourceNotFound"), LedgerRow()),
    ("update", error(404, "ResourceNotFound"), Conflict),
    ("update", error(412, "UpdateConditionNotSatisfied"), Conflict),
    ("create", error(409, "EntityAlreadyExists"), Conflict),
    ("create", answer(204, b"", b'etag: W/"1"'), LedgerRow(version=TAG)),
    ("update", answer(204, b"", b'etag: W/"1"'), LedgerRow(version=TAG)),
    ("create", answer(201), StoreUnavailable),
    ("create", answer(204), StoreUnavailable),
    ("update", answer(202), StoreUnavailable),
    ("update", answer(204), StoreUnavailable),
    ("health", answer(204), None),
    ("usage", error(400, "InvalidInput"), None),  # a row that is refused is dropped
    ("delete", error(400, "InvalidInput"), None),  # and one whose key is refused is skipped
    ("delete", error(404, "ResourceNotFound"), None),
    ("delete", error(404, "Odd"), StoreUnavailable),
    ("usage", answer(202, PART + b"HTTP/1.1 204 X" + END, MIXED), None),
    ("deployments", answer(200, b'{"value": []}', JSON), []),
    ("event_codes", answer(200, b'{"value": []}', JSON), frozenset()),
    ("event_codes", answer(200, b'{"value": [{"PartitionKey": "x"}]}', JSON), frozenset({"x"})),
    ("partitions", answer(200, b'{"value": [{"PartitionKey": "x"}]}', JSON), StoreUnavailable),
    ("partitions", answer(200, b'{"value": [{}]}', JSON), StoreUnavailable),
    ("pages", answer(200, b'{"value": [{}]}', JSON), StoreUnavailable),
    *[
        (operation, error(409, "EntityAlreadyExists"), StoreUnavailable)
        for operation in ("event", "event_codes", "deployments", "check", "read", "health", "usage", "pages")
    ],
    *[
        (operation, error(412, "UpdateConditionNotSatisfied"), StoreUnavailable)
        for operation in ("event", "event_codes", "deployments", "check", "read", "usage", "pages", "delete")
    ],
]


@pytest.mark.parametrize(("operation", "response", "expected"), MEANINGS)
async def test_response_has_its_meaning(operation: str, response: bytes, expected: object) -> None:
    async with answering(response) as tables:
        assert await outcome(operation, tables) == expected


async def test_redirect_is_not_followed() -> None:
    """It would carry the account's signature elsewhere."""
    async with answering(answer(200, b'{"value": []}', JSON)) as other:
        elsewhere = other.row_keys._service.url
        async with answering(answer(307, b"", b"location: " + elsewhere.encode())) as tables:
            with pytest.raises(StoreUnavailable):
                await tables.deployments()
