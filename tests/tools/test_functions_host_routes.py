"""Which function gets a request: the platform's rules, one by one."""

import json
from typing import Any

import azure.functions as func
import pytest
from azurefunctions.extensions.http.fastapi import Request, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.sample_apps import NO_PREFIX, call, echo_app, new_app
from tools.functions_host import AppFault, FunctionsHost, HostSettings
from tools.functions_host.functions import read_functions
from tools.functions_host.routes import Routes, decode_path


def find(app: func.FunctionApp, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    found = Routes(read_functions(app, "").http).find(method, path.encode())
    return None if found is None else (found[0].name, found[1])


def test_routes_are_tried_in_the_order_of_the_functions_names_ignoring_case() -> None:
    app = echo_app(("Zed", "x/{*rest}"), ("beta", "x/{any}"), ("Alpha", "x/{n:int}"))
    assert find(app, "/x/1") == ("Alpha", {"n": "1"})
    assert find(app, "/x/a") == ("beta", {"any": "a"})
    assert find(app, "/x/a/b") == ("Zed", {"rest": "a/b"})


def test_the_first_name_wins_even_where_a_later_route_is_more_specific() -> None:
    app = echo_app(("b_exact", "models/one"), ("A_any", "models/{name}"))
    assert find(app, "/models/one") == ("A_any", {"name": "one"})


def test_a_literal_with_the_earlier_name_wins() -> None:
    app = echo_app(("a_exact", "models/one"), ("b_any", "models/{name}"))
    assert find(app, "/models/one") == ("a_exact", {})
    assert find(app, "/models/two") == ("b_any", {"name": "two"})


def test_a_wrong_method_leaves_the_request_to_a_later_function() -> None:
    app = echo_app(("a", "x", ["POST"]), ("b", "{rest}", ["GET"]))
    assert find(app, "/x") == ("b", {"rest": "x"})
    assert find(app, "/x", "POST") == ("a", {})
    assert find(app, "/x", "PUT") is None


def test_a_function_without_methods_serves_every_method_of_the_extension() -> None:
    app = new_app()

    @app.route("x")
    async def anything(req: Request) -> Response: ...

    assert find(app, "/x", "DELETE") == find(app, "/x", "TRACE") == ("anything", {})
    assert find(app, "/x", "PROPFIND") is None


def test_an_empty_route_is_the_functions_name_and_a_slash_is_the_root() -> None:
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
        ("a/b", "/%61/b", {}),
        ("a.b", "/aXb", None),
        ("a/{one}", "/a/x%20y%2Fz", {"one": "x y%2Fz"}),
        ("a/{one}", "/a/%252F", {"one": "%2F"}),
        ("a/{one}", "/a/%C3%A9%FF", {"one": "%C3%A9%FF"}),
        ("a/{one}", "/a/+%2B", {"one": "++"}),
        ("a/{one}", "/a/", None),
        ("a/{one}", "/a/b/c", None),
        ("a/{One}", "/a/b", {"One": "b"}),
        ("a/{one?}", "/a/", {}),
        ("a/{one?}", "/a", {}),
        ("a/{one?}", "/a/b", {"one": "b"}),
        ("a/{*rest}", "/a", {}),
        ("a/{*rest}", "/a/", {}),
        ("a/{*rest}", "/a/b/c/", {"rest": "b/c/"}),
        ("a/{*rest}", "/ab", None),
        ("{name}.{kind}", "/x.y.z", {"name": "x.y", "kind": "z"}),
        ("a/{n:int}", "/a/-12", {"n": "-12"}),
        ("a/{n:int}", "/a/2147483648", None),
        ("a/{n:long}", "/a/2147483648", {"n": "2147483648"}),
        ("a/{n:int?}", "/a", {}),
        ("a/{n:alpha}", "/a/aZ", {"n": "aZ"}),
        ("a/{n:alpha}", "/a/a1", None),
        ("a/{n:bool}", "/a/True", {"n": "True"}),
        (
            "a/{n:guid}",
            "/a/936da01f-9abd-4d9d-80c7-02af85c822a8",
            {"n": "936da01f-9abd-4d9d-80c7-02af85c822a8"},
        ),
        ("a/{n:guid}", "/a/936da01f", None),
        (r"a/{n:regex(^\d{{3}}$)}", "/a/123", {"n": "123"}),
        (r"a/{n:regex(^\d{{3}}$)}", "/a/1234", None),
        ("a/{n:regex(^v[0-9]+$)}", "/a/V2", {"n": "V2"}),
        ("a/{n:length(2,3)}", "/a/xyz", {"n": "xyz"}),
        ("a/{n:length(2)}", "/a/xyz", None),
        ("a/{n:int:range(1,9)}", "/a/10", None),
        ("a/{n:minlength(2):maxlength(3)}", "/a/x", None),
        ("a/{n:min(5)}", "/a/5", {"n": "5"}),
        ("a/{n:max(5)}", "/a/6", None),
    ],
)
def test_a_route_matches_as_on_the_platform(route: str, path: str, params: dict[str, str] | None) -> None:
    expected = None if params is None else ("f", params)
    assert find(echo_app(("f", route)), path) == expected


@settings(deadline=None)
@given(
    routes=st.lists(
        st.sampled_from(["a", "a/b", "{x}", "{x}/b", "a/{x?}", "a/{*r}", "/", "{*all}", "{n:int}", "B/a"]),
        unique=True,
    ),
    path=st.lists(st.sampled_from(["a", "A", "b", "1", "%61", ".", "..", ""]), max_size=4).map("/".join),
)
def test_the_look_up_of_literal_routes_answers_as_the_scan_in_order_does(
    routes: list[str], path: str
) -> None:
    functions = read_functions(echo_app(*((f"f{n}", route) for n, route in enumerate(routes))), "").http
    raw = f"/{path}".encode()
    scanned: tuple[str, dict[str, str]] | None = None
    for function in functions:
        found = function.template.pattern.fullmatch(decode_path(raw))
        values = None if found is None else function.template.values(found)
        if values is not None:
            scanned = (function.name, values)
            break
    match = Routes(functions).find("GET", raw)
    assert (None if match is None else (match[0].name, match[1])) == scanned


async def test_a_match_reaches_the_function_with_its_parameters() -> None:
    async with FunctionsHost(echo_app(("f", "a/{one}/{two?}")), settings=NO_PREFIX) as host:
        answer = await call(host.url, "/A/x%2Fy%20z")
    assert json.loads(answer.body) == {"function": "f", "params": {"one": "x%2Fy z"}}


async def test_an_unknown_path_and_a_wrong_method_are_an_empty_404() -> None:
    async with FunctionsHost(echo_app(("f", "a", ["POST"])), settings=NO_PREFIX) as host:
        for answer in (await call(host.url, "/b"), await call(host.url, "/a")):
            assert (answer.status, answer.body) == (404, b"")


async def test_the_route_prefix_is_api_unless_another_is_set() -> None:
    async with FunctionsHost(echo_app(("f", "a"))) as host:
        assert (await call(host.url, "/api/a")).status == 200
        assert (await call(host.url, "/a")).status == 404
    async with FunctionsHost(echo_app(("f", "a")), settings=HostSettings(route_prefix="x/y")) as host:
        assert (await call(host.url, "/x/y/a")).status == 200


def classic(req: func.HttpRequest) -> Response: ...
def many_returns(req: Request) -> Response | str: ...
def no_return(req: Request) -> None: ...
def optional_request(req: Request | None) -> Response: ...
def wrong_parameter(request: Request) -> Response: ...
def unknown_name(req: "Requst") -> Response: ...  # type: ignore[name-defined] # noqa: F821 - that is the point


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (classic, "req.*HttpRequest.*Request"),
        (many_returns, "annotated to return"),
        (no_return, "annotated to return"),
        (optional_request, "must be the extension's Request"),
        (wrong_parameter, "its trigger is named 'req'"),
        (unknown_name, "cannot be resolved"),
    ],
)
def test_an_annotation_that_stops_the_platform_is_named(handler: Any, fault: str) -> None:
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
        (echo_app(("1f", "a")), "'1f' is not a function's name"),
        (echo_app(("f", "{*a}/b")), "must be the last segment"),
        (echo_app(("f", "{a")), "do not pair"),
        (echo_app(("f", "{a}/{A}")), "named twice"),
        (echo_app(("f", "{a:colour}")), "'colour' is not known"),
    ],
)
def test_a_fault_of_the_app_is_named_in_a_sentence(app: func.FunctionApp, fault: str) -> None:
    with pytest.raises(AppFault, match=fault):
        read_functions(app, "")


def test_a_route_that_hangs_in_the_cloud_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    app = echo_app(("root", "{*all}"))

    @app.route("x")
    async def anything(req: Request) -> Response: ...

    read_functions(app, "")
    assert "root serves /docs" in caplog.text
    assert "anything lists no methods" in caplog.text


def test_one_route_may_be_shared_when_no_method_is() -> None:
    app = echo_app(("f", "a", ["GET"]), ("g", "a", ["POST", "PUT"]))
    assert find(app, "/a", "PUT") == ("g", {})


def test_a_binding_name_with_other_signs_than_letters_and_digits_is_a_fault() -> None:
    app = new_app()

    @app.timer_trigger("my_timer", "0 * * * * *")
    async def tick(my_timer: func.TimerRequest) -> None: ...

    with pytest.raises(AppFault, match="'my_timer' may hold only letters and digits"):
        read_functions(app, "")


def test_a_trigger_of_another_kind_is_a_fault() -> None:
    app = new_app()

    @app.queue_trigger("message", "queue", "Connection")
    async def on_message(message: func.QueueMessage) -> None: ...

    with pytest.raises(AppFault, match="no 'queueTrigger'"):
        read_functions(app, "")


def test_one_app_object_can_be_read_twice() -> None:
    app = echo_app(("f", "a"))
    assert len(read_functions(app, "").http) == len(read_functions(app, "").http) == 1
