# mypy: disable-error-code="empty-body"
"""Which function gets a request, and which apps are refused: the platform's rules, one by one."""

import json
from typing import Any

import azure.functions as func
import pytest

from shared.functions.http import Request, Response
from tests.tools.sample_apps import app_of, call, echo_app
from tools.functions_host import AppFault, FunctionsHost
from tools.functions_host.app import read_functions
from tools.functions_host.routes import resolve


def find(app: func.FunctionApp, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    return read_functions(app, "").routes.find(method, resolve(path))


IN_ORDER = [("Zed", "x/{*rest}"), ("beta", "x/{any}"), ("Alpha", "x/1"), ("beta2", "x/2")]
BY_METHOD = [("a", "x", ["POST"]), ("b", "{rest}", ["GET"]), ("c", "x", ["PUT", "PATCH"])]
EMPTY = [("named", ""), ("root", "/")]


@pytest.mark.parametrize(
    ("functions", "method", "path", "expected"),
    [
        (IN_ORDER, "GET", "/x/1", ("Alpha", {})),
        (IN_ORDER, "GET", "/x/2", ("beta", {"any": "2"})),  # though beta2 is more specific
        (IN_ORDER, "GET", "/x/a/b", ("Zed", {"rest": "a/b"})),
        (BY_METHOD, "GET", "/x", ("b", {"rest": "x"})),
        (BY_METHOD, "POST", "/x", ("a", {})),
        (BY_METHOD, "PATCH", "/x", ("c", {})),
        (BY_METHOD, "DELETE", "/x", None),
        (EMPTY, "GET", "/named", ("named", {})),
        (EMPTY, "GET", "/", ("root", {})),
    ],
)
def test_first_function_by_name_with_the_path_and_method_is_found(
    functions: list[Any], method: str, path: str, expected: object
) -> None:
    """The order of names ignores case. An empty route is the function's name, and a slash is the root."""
    assert find(echo_app(*functions), path, method) == expected


def test_function_that_lists_no_methods_takes_all_of_them() -> None:
    async def anything(req: Request) -> Response: ...

    app = app_of(anything, route="x")
    assert find(app, "/x", "DELETE") == find(app, "/x", "PROPFIND") == ("anything", {})


@pytest.mark.parametrize(
    ("route", "path", "params"),
    [
        ("a/b", "/A/b", {}),
        ("A/b", "/a/B/", {}),
        ("a/b", "/a/b//", None),
        ("a/b", "/a", None),
        ("a/b", "/a/./b", {}),
        ("a/b", "/c/../a/b", {}),
        ("a/b", "/c/%2e%2E/a/b", {}),
        ("a/b", "/../a/b/.", {}),
        ("a/b", "/%61/b", {}),
        ("a.b", "/aXb", None),
        ("a/{one}", "/a/x%20y%2Fz", {"one": "x y%2Fz"}),
        ("a/{one}", "/a/%252F", {"one": "%2F"}),
        ("a/{one}", "/a/%C3%A9%FF", {"one": "%C3%A9%FF"}),
        ("a/{one}", "/a/%C3%A9%0a", {"one": "é\n"}),
        ("a/{one}", "/a/+%2B", {"one": "++"}),
        ("a/{one}", "/a/", None),
        ("a/{one}", "/a/b/c", None),
        ("a/{One}", "/a/b", {"One": "b"}),
        ("a/{*rest}", "/a", {}),
        ("a/{*rest}", "/a/", {}),
        ("a/{*rest}", "/a/b/c/", {"rest": "b/c/"}),
        ("a/{*rest}", "/ab", None),
    ],
)
def test_route_matches_as_on_the_platform(route: str, path: str, params: dict[str, str] | None) -> None:
    expected = None if params is None else ("f", params)
    assert find(echo_app(("f", route)), path) == expected


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/A/x%2Fy%20z", 200),
        ("GET", "/b", 404),
        ("PUT", "/a/x", 404),
        ("GET", "/a//x", 404),
        ("GET", "//a/x", 404),
        ("POST", "/*//x", 404),
    ],
)
async def test_request_without_a_match_is_an_empty_404(method: str, target: str, status: int) -> None:
    app = echo_app(("f", "a/{one}/{*two}"), ("z", "*/{*rest}", ["POST"]))
    async with FunctionsHost(app, route_prefix="") as host:
        received = await call(host.url, target, method)
    body = json.dumps({"function": "f", "params": {"one": "x%2Fy z"}}).encode() if status == 200 else b""
    assert (received.status, received.body) == (status, body)


async def test_route_prefix_is_api_unless_another_is_set() -> None:
    async with FunctionsHost(echo_app(("f", "a"))) as host:
        assert (await call(host.url, "/api/a")).status == 200
        assert (await call(host.url, "/a")).status == 404
    async with FunctionsHost(echo_app(("f", "a")), route_prefix="x/y") as host:
        assert (await call(host.url, "/x/y/a")).status == 200


async def classic(req: func.HttpRequest) -> Response: ...
async def many_returns(req: Request) -> Response | str: ...
async def no_return(req: Request) -> None: ...
async def optional_request(req: Request | None) -> Response: ...
async def wrong_parameter(request: Request) -> Response: ...
async def unknown_name(req: "Requst") -> Response: ...  # type: ignore[name-defined] # noqa: F821 - a typing error
def not_async(req: Request) -> Response: ...


async def tick(my_timer: func.TimerRequest) -> None: ...
async def on_message(message: func.QueueMessage) -> None: ...


@pytest.mark.parametrize(
    ("app", "fault"),
    [
        (app_of(classic), "annotate 'req' with the Request"),
        (app_of(many_returns), "annotate the result with the Response"),
        (app_of(no_return), "annotate the result"),
        (app_of(optional_request), "annotate 'req'"),
        (app_of(wrong_parameter), "must have one parameter, 'req'"),
        (app_of(unknown_name), "an annotation has no value"),
        (app_of(not_async), "write it with 'async def'"),
        (
            app_of(tick, "timer_trigger", arg_name="my_timer", schedule="0 * * * * *"),
            "only letters and digits in the binding name 'my_timer'",
        ),
        (
            app_of(on_message, "queue_trigger", arg_name="message", queue_name="q", connection="C"),
            "no queueTrigger",
        ),
        (echo_app(("same", "a"), ("same", "b")), "same does not have a unique"),
        (echo_app(("f", "admin/x")), "may not begin with 'admin'"),
        (echo_app(("f", "Runtimes")), "may not begin with"),
        (echo_app(("f", "a/b"), ("g", "/A/B/")), "f and g have the same route"),
        (echo_app(("1f", "a")), "'1f' is not a function name"),
        (echo_app(("f", "{*a}/b")), "'{\\*a}/b'"),
        *((echo_app(("f", route)), "a route has literals") for route in ("{a", "{a?}", "{n:int}", "{a}.{b}")),
    ],
)
def test_app_that_cannot_run_is_refused(app: func.FunctionApp, fault: str) -> None:
    with pytest.raises(AppFault, match=fault):
        read_functions(app, "")
