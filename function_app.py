"""The Functions triggers: routes and nothing else.

The host tries routes in the order of the functions' names, so what catches the rest is named last
(`z_`). Every trigger lists its methods: without, some of them would never be answered.
"""

import os

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from shared import web
from shared.web import Web

PREFIXES = {"v1": "v1", "api_v1": "api/v1"}
"""Both are the same everywhere: function name prefix, and route prefix."""

CHAT_ROUTES = {
    "chat": "chat/completions",
    "chat_azure": "openai/deployments/{deployment}/chat/completions",
    "chat_azure_base": "deployments/{deployment}/chat/completions",
    "chat_azure_v1": "openai/v1/chat/completions",
}
MODEL_ROUTES = {"models": "models", "models_azure": "openai/models", "models_azure_v1": "openai/v1/models"}
WITHOUT_PREFIX = (
    *(
        "audio",
        "batches",
        "chat",
        "completions",
        "deployments",
        "embeddings",
        "event",
        "files",
        "images",
        "models",
    ),
    *("moderations", "openai", "responses"),
)
"""What the SDKs' paths begin with when the prefix was forgotten. Never the root itself: the extension's own
pages there, such as /docs, would answer a function that catches all, and the call would wait for ever."""
NIGHTLY = "0 17 3 * * *"
"""Second, minute, hour, day, month, day of the week: at 03:17 UTC."""
EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def create_app(service: Web) -> func.FunctionApp:
    """All triggers, answered by `service`."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    async def chat(req: Request) -> Response:
        return await service.chat(req)

    async def models(req: Request) -> Response:
        return await service.models(req)

    async def model(req: Request) -> Response:
        return await service.model(req)

    async def event(req: Request) -> Response:
        return await service.event(req)

    async def ready(req: Request) -> Response:
        return await service.ready(req)

    async def alive(req: Request) -> Response:
        return await web.alive(req)

    async def home(req: Request) -> Response:
        return await web.home(req)

    async def remove_old_rows(timer: func.TimerRequest) -> None:
        await service.remove_old_rows()

    async def unknown(req: Request) -> Response:
        return await web.unknown(req)

    async def without_v1(req: Request) -> Response:
        return await web.without_v1(req)

    def add(name: str, route: str, handler: object, methods: list[str]) -> None:
        app.function_name(name)(app.route(route, methods=methods)(handler))

    def method_not_allowed(name: str, route: str, allowed: str) -> None:
        async def refuse(req: Request) -> Response:
            return await web.method_not_allowed(req, allowed)

        add(f"y_{name}", route, refuse, [method for method in EVERY_METHOD if method != allowed])

    routes = [(key, path, chat, "POST") for key, path in CHAT_ROUTES.items()]
    routes += [(key, path, models, "GET") for key, path in MODEL_ROUTES.items()]
    routes += [(f"{key}_one", f"{path}/{{model}}", model, "GET") for key, path in MODEL_ROUTES.items()]
    routes += [("event", "event", event, "GET")]
    for name, prefix in PREFIXES.items():
        for key, path, handler, method in routes:
            add(f"{name}_{key}", f"{prefix}/{path}", handler, [method])
            method_not_allowed(f"{name}_{key}", f"{prefix}/{path}", method)
    add("healthz", "healthz", alive, ["GET"])
    add("home", "/", home, ["GET"])
    add("readyz", "readyz", ready, ["GET"])
    nightly = app.timer_trigger(schedule=NIGHTLY, arg_name="timer", run_on_startup=False)
    app.function_name("remove_old_rows")(nightly(remove_old_rows))
    add("z_api", "api/{*rest}", unknown, EVERY_METHOD)
    add("z_v1", "v1/{*rest}", unknown, EVERY_METHOD)
    for key, path, *_ in routes:
        add(f"y_without_v1_{key}", path, without_v1, EVERY_METHOD)
    for first in WITHOUT_PREFIX:
        add(f"z_{first}", f"{first}/{{*rest}}", unknown, EVERY_METHOD)
    return app


app = create_app(Web(os.environ))
