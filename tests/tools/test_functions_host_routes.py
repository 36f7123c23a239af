# mypy: disable-error-code="empty-body"
"""Which function gets a request, and which apps are refused: the platform's rules, one by one."""

import json
from typing import Any

import azure.functions as func
import pytest

from shared.functions.http import Request, Response
from tests.tools.sample_apps import call, echo_app, new_app
from tools.functions_host import AppFault, FunctionsHost
from tools.functions_host.app import read_functions
from tools.functions_host.routes import resolve


def find(app: func.FunctionApp, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    return read_functions(app, "").routes.find(method, resolve(path))


def test_routes_are_tried_in_the_order_of_the_function_names_ignoring_case() -> None:
    app = echo_app(("Zed", "x/{*rest}"), ("beta", "x/{any}"), ("Alpha", "x/1"))
    assert find(app, "/x/1") == ("Alpha", {})
    assert find(app, "/x/a") == ("beta", {"any": "a"})
    assert find(app, "/x/a/b") == ("Zed", {"rest": "a/b"})


def test_the_first_name_wins_over_a_more_specific_route() -> None:
    app = echo_app(("b_exact", "models/one"), ("A_any", "models/{name}"))
    assert find(app, "/models/one") == ("A_any", {"name": "one"})


def test_a_function_without_the_method_leaves_the_request_to_a_later_one() -> None:
    app = echo_app(("a", "x", ["POST"]), ("b", "{rest}", ["GET"]))
    assert find(app, "/x") == ("b", {"rest": "x"})
    assert find(app, "/x", "POST") == ("a", {})
    assert find(app, "/x", "PUT") is None


def test_a_function_that_lists_no_methods_takes_all_of_them() -> None:
    app = new_app()

    @app.route("x")
    async def anything(req: Request) -> Response: ...

    assert find(app, "/x", "DELETE") == find(app, "/x", "PROPFIND") == ("anything", {})


def test_an_empty_route_is_the_function_name_and_a_slash_is_the_root() -> None:
    app = echo_app(("named", ""), ("root", "/"))
    assert find(app, "/named") == ("named", {})
    assert find(app, "/") == ("root", {})


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
def test_a_route_matches_as_on_the_platform(route: str, path: str, params: dict[str, str] | None) -> None:
    expected = None if params is None else ("f", params)
    assert find(echo_app(("f", route)), path) == expected


async def test_a_match_reaches_the_function_with_its_parameters() -> None:
    async with FunctionsHost(echo_app(("f", "a/{one}/{*two}")), route_prefix="") as host:
        answer = await call(host.url, "/A/x%2Fy%20z")
    assert json.loads(answer.body) == {"function": "f", "params": {"one": "x%2Fy z"}}


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/b"), ("GET", "/a"), ("POST", "/a//"), ("POST", "//a"), ("POST", "/*//x")]
)
async def test_an_unknown_path_a_wrong_method_and_a_doubled_slash_are_an_empty_404(
    method: str, target: str
) -> None:
    app = echo_app(("f", "a", ["POST"]), ("z", "*/{*rest}", ["POST"]))
    async with FunctionsHost(app, route_prefix="") as host:
        answer = await call(host.url, target, method)
    assert (answer.status, answer.body) == (404, b"")


async def test_the_route_prefix_is_api_unless_another_is_set() -> None:
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
async def unknown_name(req: "Requst") -> Response: ...  # type: ignore[name-defined] # noqa: F821 - that is the point
def not_async(req: Request) -> Response: ...


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (classic, "annotate 'req' with the Request"),
        (many_returns, "annotate the result with the Response"),
        (no_return, "annotate the result"),
        (optional_request, "annotate 'req'"),
        (wrong_parameter, "must have one parameter, 'req'"),
        (unknown_name, "an annotation has no value"),
        (not_async, "write it with 'async def'"),
    ],
)
def test_a_handler_that_the_platform_or_this_host_cannot_run_is_refused(handler: Any, fault: str) -> None:
    app = new_app()
    app.route("x", methods=["GET"])(handler)
    with pytest.raises(AppFault, match=fault):
        read_functions(app, "")


@pytest.mark.parametrize(
    ("app", "fault"),
    [
        (echo_app(("same", "a"), ("same", "b")), "same does not have a unique"),
        (echo_app(("f", "admin/x")), "may not begin with 'admin'"),
        (echo_app(("f", "Runtimes")), "may not begin with"),
        (echo_app(("f", "a/b"), ("g", "/A/B/")), "f and g have the same route"),
        (echo_app(("1f", "a")), "'1f' is not a function name"),
        (echo_app(("f", "{*a}/b")), "'{\\*a}/b'"),
        *((echo_app(("f", route)), "a route has literals") for route in ("{a", "{a?}", "{n:int}", "{a}.{b}")),
    ],
)
def test_a_fault_of_the_app_is_named_in_a_sentence(app: func.FunctionApp, fault: str) -> None:
    with pytest.raises(AppFault, match=fault):
        read_functions(app, "")


def test_two_functions_may_share_a_route_but_not_a_method() -> None:
    app = echo_app(("f", "a", ["GET"]), ("g", "a", ["POST", "PUT"]))
    assert find(app, "/a", "PUT") == ("g", {})


def test_a_binding_name_has_letters_and_digits_only() -> None:
    app = new_app()

    @app.timer_trigger("my_timer", "0 * * * * *")
    async def tick(my_timer: func.TimerRequest) -> None: ...

    with pytest.raises(AppFault, match="only letters and digits in the binding name 'my_timer'"):
        read_functions(app, "")


def test_a_trigger_of_another_kind_is_refused() -> None:
    app = new_app()

    @app.queue_trigger("message", "queue", "Connection")
    async def on_message(message: func.QueueMessage) -> None: ...

    with pytest.raises(AppFault, match="no queueTrigger"):
        read_functions(app, "")


def test_an_app_object_can_be_read_twice() -> None:
    app = echo_app(("f", "a"))
    assert [*read_functions(app, "").http] == [*read_functions(app, "").http] == ["f"]
