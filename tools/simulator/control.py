"""`GET /_received` and `POST /_behave`: for demos, what tests do in the process."""

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from . import catalogue
from .journal import Call, Journal
from .orders import Orders

RECEIVED, BEHAVE = "/_received", "/_behave"
_SECRET = ("api-key", "authorization")
_LOCAL = ("127.0.0.1", "localhost")


class Control:
    def __init__(self, journal: Journal, orders: Orders, known: Callable[[str], bool]) -> None:
        self._journal = journal
        self._orders = orders
        self._known = known

    async def answer(self, request: web.BaseRequest) -> web.Response | None:
        """None: the request is not for the control."""
        wanted = {RECEIVED: "GET", BEHAVE: "POST"}.get(request.path)
        if wanted is None:
            return None
        if request.host.partition(":")[0] not in _LOCAL:  # a web page of another site, by a name of its own
            return _error(403, "only for this machine, at 127.0.0.1 or localhost")
        if request.method != wanted:
            return _error(405, f"{request.path} takes {wanted}")
        return self._received() if request.path == RECEIVED else await self._behave(request)

    def _received(self) -> web.Response:
        totals = {
            name: {
                "calls": total.calls,
                "answered": total.answered,
                "prompt_tokens": total.prompt_tokens,
                "completion_tokens": total.completion_tokens,
            }
            for name, total in self._journal.totals.items()
        }
        return web.json_response({"totals": totals, "calls": [_shown(call) for call in self._journal.calls]})

    async def _behave(self, request: web.BaseRequest) -> web.Response:
        """`{"deployment": "gpt-4o", "behaviour": "429", "times": 2}`; without times, until told otherwise."""
        try:
            order = json.loads(await request.read())
        except (ValueError, RecursionError, web.RequestPayloadError):
            return _error(400, "the body is not JSON")
        fault = self._fault(order)
        if fault is not None:
            return _error(400, fault)
        behaviour, times = catalogue.find(order["behaviour"]), order.get("times")
        assert behaviour is not None  # noqa: S101 _fault has looked
        if times is None:
            self._orders.always(order["deployment"], behaviour)
        else:
            self._orders.queue(order["deployment"], (behaviour,) * times)
        return web.json_response(
            {"deployment": order["deployment"], "behaviour": repr(behaviour), "times": times}
        )

    def _fault(self, order: Any) -> str | None:
        if not isinstance(order, dict):
            return "the body is not an object"
        deployment, name, times = order.get("deployment"), order.get("behaviour"), order.get("times")
        if not isinstance(deployment, str) or not self._known(deployment):
            return "deployment: name one that exists"
        if not isinstance(name, str) or catalogue.find(name) is None:
            return f"behaviour: one of\n{catalogue.help_text()}"
        if times is not None and (type(times) is not int or not 1 <= times <= 1000):
            return "times: a number from 1 to 1000, or nothing for always"
        return None


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


def _body(call: Call) -> Any:
    """The JSON, or the text where it is none, or is nested too deeply to be written again."""
    value = call.json
    try:
        json.dumps([[[value]]])
    except RecursionError:
        value = None
    return call.body.decode("utf-8", "replace") if value is None else value


def _shown(call: Call) -> dict[str, Any]:
    usage = call.usage
    return {
        "number": call.number,
        "at": call.at.isoformat(),
        "method": call.method,
        "path": call.path,
        "query": call.query,
        "headers": [[name, "***" if name.lower() in _SECRET else value] for name, value in call.headers],
        "body": _body(call),
        "deployment": call.deployment,
        "form": call.form,
        "behaviour": None if call.behaviour is None else repr(call.behaviour),
        "status": call.status,
        "chunks": call.chunks,
        "tokens": call.tokens,
        "usage": usage
        and {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
        "finished": call.finished,
        "left": call.left,
    }
