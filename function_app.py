"""The Functions triggers. One of them serves every path: the table of paths is `shared/app/paths.py`.

It lists its methods. Without the list, the host would also start invocations for methods that the HTTP server
refuses, and they would wait for a request that never arrives.
"""

import os

import azure.functions as func

import shared.functions.extension  # noqa: F401 - the worker serves HTTP with it
from shared.app.web import Web

NIGHTLY = "0 17 3 * * *"
"""Every day at 03:17 UTC."""
EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def create_app(web: Web) -> func.FunctionApp:
    """All triggers, with the handlers in `web`."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    async def remove_old_rows(timer: func.TimerRequest) -> None:
        await web.remove_old_rows()

    for name, route in (("home", "/"), ("proxy", "{*path}")):  # without "home", the host shows its own page
        app.function_name(name)(app.route(route, methods=EVERY_METHOD)(web.serve))
    nightly = app.timer_trigger(schedule=NIGHTLY, arg_name="timer", run_on_startup=False)
    app.function_name("remove_old_rows")(nightly(remove_old_rows))
    return app


app = create_app(Web(os.environ))
