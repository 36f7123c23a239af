"""The statuses, codes, bodies and headers of all errors, on which clients rely."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from shared.core import errors, quota_errors
from shared.core.errors import ProxyError
from tests.error_classes import every_refusal

TABLE = {
    (400, "invalid_json", "invalid_request_error"),
    (400, "invalid_request", "invalid_request_error"),
    (400, "unsupported_value", "invalid_request_error"),
    (400, "context_length_exceeded", "invalid_request_error"),
    (401, "invalid_event_token", "authentication_error"),
    (401, "invalid_desk_key", "authentication_error"),
    (403, "event_not_started", "permission_error"),
    (403, "event_ended", "permission_error"),
    (403, "event_inactive", "permission_error"),
    (403, "attendee_blocked", "permission_error"),
    (403, "tool_not_allowed", "permission_error"),
    (404, "model_not_found", "invalid_request_error"),
    (404, "not_found", "invalid_request_error"),
    (405, "method_not_allowed", "invalid_request_error"),
    (409, "changed_meanwhile", "invalid_request_error"),
    (409, "name_taken", "invalid_request_error"),
    (409, "no_seats_left", "invalid_request_error"),
    (413, "request_too_large", "invalid_request_error"),
    (415, "unsupported_encoding", "invalid_request_error"),
    (426, "websocket_not_supported", "invalid_request_error"),
    (429, "request_quota_exceeded", "insufficient_quota"),
    (429, "token_quota_exceeded", "insufficient_quota"),
    (429, "event_quota_exceeded", "insufficient_quota"),
    (429, "budget_exceeded", "insufficient_quota"),
    (429, "event_budget_exceeded", "insufficient_quota"),
    (429, "rate_limited", "rate_limit_error"),
    (429, "upstream_busy", "rate_limit_error"),
    (500, "internal_error", "server_error"),
    (502, "upstream_error", "server_error"),
    (503, "store_unavailable", "server_error"),
    (503, "model_not_priced", "server_error"),
    (503, "overloaded", "server_error"),
    (504, "upstream_timeout", "server_error"),
}

EVERY = [
    errors.InvalidJson("No.", param="model"),
    errors.InvalidRequest("No."),
    errors.UnsupportedValue("No.", "background"),
    errors.ContextTooLong("No."),
    errors.InvalidEventToken(),
    errors.InvalidDeskKey(),
    errors.EventNotStarted("No."),
    errors.EventEnded("No."),
    errors.EventInactive("No."),
    errors.AttendeeBlocked("No."),
    errors.ToolNotAllowed("No.", param="tools"),
    errors.ModelNotFound('No "é" 日本 \x00.', param="model"),
    errors.NotFound("No."),
    errors.MethodNotAllowed("No.", "POST"),
    errors.ChangedMeanwhile("No."),
    errors.NameTaken("No."),
    errors.NoSeatsLeft("No."),
    errors.RequestTooLarge("No."),
    errors.UnsupportedEncoding("No."),
    errors.WebSocketNotSupported("No."),
    quota_errors.RequestQuotaExceeded("No.", 3600),
    quota_errors.TokenQuotaExceeded("No.", 3600),
    quota_errors.EventQuotaExceeded("No.", 3600),
    quota_errors.BudgetExceeded("No.", 3600),
    quota_errors.EventBudgetExceeded("No."),
    errors.RateLimited("No.", 1.5),
    errors.UpstreamBusy("No.", 1.5),
    errors.InternalError(),
    errors.UpstreamError("No."),
    errors.StoreUnavailable(),
    errors.ModelNotPriced("No."),
    errors.Overloaded("No.", 2),
    errors.UpstreamTimeout("No."),
]


def test_table_lists_every_error() -> None:
    assert {(kind.status, kind.code, kind.type) for kind in every_refusal()} == TABLE


def test_each_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in every_refusal()]
    assert len(codes) == len(set(codes)) == len(TABLE)


def test_these_tests_have_an_instance_of_each_error() -> None:
    assert {type(error) for error in EVERY} == set(every_refusal())


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_body_has_exactly_the_four_members_of_an_openai_error(error: ProxyError) -> None:
    body = json.loads(error.body())
    assert set(body) == {"error"}
    assert body["error"] == {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    assert isinstance(body["error"]["code"], str)
    assert isinstance(body["error"]["message"], str)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_headers_are_printable_ascii_with_lower_case_names(error: ProxyError) -> None:
    for name, value in error.headers.items():
        assert name == name.lower()
        assert value.isascii()
        assert value.decode().isprintable()


@pytest.mark.parametrize("kind", [k for k in every_refusal() if issubclass(k, quota_errors.QuotaExceeded)])
def test_used_up_quota_stops_the_sdks_from_retrying(kind: type[quota_errors.QuotaExceeded]) -> None:
    assert kind("No.", 59.2).headers == {b"retry-after": b"60", b"x-should-retry": b"false"}


@pytest.mark.parametrize("kind", [k for k in every_refusal() if issubclass(k, quota_errors.QuotaExceeded)])
def test_quota_that_comes_back_much_later_sends_no_retry_after(
    kind: type[quota_errors.QuotaExceeded],
) -> None:
    assert kind("No.", 60.5).headers == {b"x-should-retry": b"false"}


@pytest.mark.parametrize("kind", [k for k in every_refusal() if issubclass(k, quota_errors.QuotaExceeded)])
def test_quota_that_others_still_hold_lets_the_sdks_retry(kind: type[quota_errors.QuotaExceeded]) -> None:
    assert kind("No.", 2, temporary=True).headers == {b"retry-after": b"2", b"x-should-retry": b"true"}


@pytest.mark.parametrize("kind", [errors.RateLimited, errors.UpstreamBusy])
@pytest.mark.parametrize(
    ("seconds", "whole", "exact"),
    [(1.2, b"2", b"1200"), (0.0004, b"1", b"1"), (0, b"1", b"1"), (-5, b"1", b"1")],
)
def test_wait_is_rounded_up_to_seconds_and_to_milliseconds(
    kind: type[errors.RateLimited] | type[errors.UpstreamBusy], seconds: float, whole: bytes, exact: bytes
) -> None:
    assert kind("No.", seconds).headers == {b"retry-after": whole, b"retry-after-ms": exact}


def test_unavailable_storage_says_when_to_retry() -> None:
    assert errors.StoreUnavailable().headers == {b"retry-after": b"5"}
    assert errors.StoreUnavailable("No.", 30).headers == {b"retry-after": b"30"}


def test_401_has_a_challenge_and_405_has_the_allowed_method() -> None:
    assert errors.InvalidEventToken().headers == {b"www-authenticate": b'Bearer realm="event"'}
    assert errors.MethodNotAllowed("No.", "POST").headers == {b"allow": b"POST"}


def test_tree_in_the_docstring_has_each_class_with_its_code() -> None:
    for kind in every_refusal():
        assert re.search(rf"─ {kind.__name__} .*\b{kind.code}$", errors.__doc__ or "", re.MULTILINE)


def test_documentation_has_one_row_for_each_error() -> None:
    """A row is a cell with the status and a cell with one or more codes in backticks."""
    text = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    documented = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        statuses = [int(cell) for cell in cells if re.fullmatch(r"\d{3}", cell)]
        codes = next((c for c in cells if re.fullmatch(r"`[a-z_]+`(, ?`[a-z_]+`)*", c)), None)
        if len(statuses) == 1 and codes:
            documented += [(statuses[0], code) for code in re.findall(r"[a-z_]+", codes)]
    assert sorted(documented) == sorted((status, code) for status, code, _ in TABLE)
