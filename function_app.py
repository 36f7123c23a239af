"""The Functions triggers: routes and nothing else.

The host matches routes in the order of the functions' names, so the catch-all has the last name (`z_`). Every
trigger lists its methods. Without the list, the host would also start invocations for methods that the HTTP
server refuses, and they would wait for a request that never arrives.
"""

import os
from collections.abc import Awaitable, Callable

import azure.functions as func

import shared.functions.extension  # noqa: F401 - the worker serves HTTP with it
from shared.app.web import Web
from shared.functions.http import Request, Response

PREFIXES = {"v1": "v1", "api_v1": "api/v1"}
"""The prefix of a function's name, and of its route. Each API route exists with both prefixes."""

CHAT_ROUTES = {
    "chat": "chat/completions",
    "chat_azure": "openai/deployments/{deployment}/chat/completions",
    "chat_azure_base": "deployments/{deployment}/chat/completions",
    "chat_azure_v1": "openai/v1/chat/completions",
}
MODEL_ROUTES = {"models": "models", "models_azure": "openai/models", "models_azure_v1": "openai/v1/models"}
NIGHTLY = "0 17 3 * * *"
"""Every day at 03:17 UTC."""
EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def create_app(web: Web) -> func.FunctionApp:
    """All triggers, with the handlers in `web`."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    def add(name: str, route: str, handler: Callable[[Request], Awaitable[Response]], *methods: str) -> None:
        app.function_name(name)(app.route(route, methods=methods)(handler))

    async def remove_old_rows(timer: func.TimerRequest) -> None:
        await web.remove_old_rows()

    routes = [(key, path, web.chat, "POST") for key, path in CHAT_ROUTES.items()]
    routes += [(key, path, web.models, "GET") for key, path in MODEL_ROUTES.items()]
    routes += [(f"{key}_one", f"{path}/{{model}}", web.model, "GET") for key, path in MODEL_ROUTES.items()]
    routes += [("event", "event", web.event, "GET")]
    for name, prefix in PREFIXES.items():
        for key, path, handler, method in routes:
            others = [other for other in EVERY_METHOD if other != method]
            add(f"{name}_{key}", f"{prefix}/{path}", handler, method)
            add(f"y_{name}_{key}", f"{prefix}/{path}", web.method_not_allowed(method), *others)
    for key, path, *_ in routes:
        add(f"y_without_v1_{key}", path, web.without_v1, *EVERY_METHOD)
    for name, path, handler in (
        ("healthz", "healthz", web.alive),
        ("home", "/", web.home),
        ("readyz", "readyz", web.ready),
    ):
        add(name, path, handler, "GET", "HEAD")
        others = [other for other in EVERY_METHOD if other not in {"GET", "HEAD"}]
        add(f"y_{name}", path, web.method_not_allowed("GET"), *others)
    add("z_unknown", "{*rest}", web.unknown, *EVERY_METHOD)
    nightly = app.timer_trigger(schedule=NIGHTLY, arg_name="timer", run_on_startup=False)
    app.function_name("remove_old_rows")(nightly(remove_old_rows))
    return app


app = create_app(Web(os.environ))
