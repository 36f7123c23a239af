"""The simulated Azure OpenAI: a server on loopback, and the controls for tests."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

from aiohttp import web

from . import azure, body, chat, embeddings, gateway, images, responses, stored
from .azure import Refused
from .behaviours import Answer, ApiRequest, Behaviour, Context, Gated
from .gateway import Deployment, Route
from .journal import Call, Entry, Journal, Total
from .orders import Orders
from .turns import Turns
from .wire import Gate, Response, send, strip_headers

APIS: Mapping[str, Callable[[dict[str, Any], Context], ApiRequest]] = {
    "chat/completions": chat.parse,
    "responses": responses.parse,
    "embeddings": embeddings.parse,
    "images/generations": images.parse,
}
"""By path: the function that checks a body and returns the request of that API."""

_HOST = "127.0.0.1"
_MAX_BODY_BYTES = 64 * 2**20


class Simulator:
    """Accepts `keys` as `api-key` and `bearers` as `Authorization: Bearer`.

    `deployments` None: any name exists. `tokens_per_second` 0: full speed. `repeatable`: equal messages get
    equal responses. The journal keeps the last `keep` calls.
    """

    url = ""

    def __init__(
        self,
        *,
        keys: Collection[str] = ("sim-key",),
        bearers: Collection[str] = (),
        deployments: Mapping[str, Deployment] | None = None,
        tokens_per_second: float = 0.0,
        repeatable: bool = False,
        keep: int = 5000,
    ) -> None:
        self._keys, self._bearers = frozenset(keys), frozenset(bearers)
        self._deployments = deployments
        self._tokens_per_second = tokens_per_second
        self._repeatable = repeatable
        self._journal, self._orders, self._turns = Journal(keep), Orders(), Turns()
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(strip_headers)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.01)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def calls(self) -> tuple[Call, ...]:
        """The last calls, oldest first."""
        return self._journal.calls

    def take_ended(self) -> list[Call]:
        """Remove the calls that have ended from the journal, and return them."""
        return self._journal.take_ended()

    @property
    def totals(self) -> dict[str, Total]:
        return self._journal.totals

    def total(self, deployment: str) -> Total:
        return self._journal.total(deployment)

    async def until(self, true: Callable[[tuple[Call, ...]], bool], seconds: float = 5) -> tuple[Call, ...]:
        """Wait until it is true of the calls, and return them. Raises TimeoutError with the calls."""
        return await self._journal.until(true, seconds)

    def behave(self, deployment: str, *behaviours: Behaviour) -> None:
        """Queue behaviours, each for one request that passes all checks."""
        self._orders.queue(deployment, behaviours)

    def always(self, deployment: str, behaviour: Behaviour) -> None:
        """For every request for which no behaviour is queued."""
        self._orders.always(deployment, behaviour)

    def gate(self, deployment: str, then: Behaviour | None = None, *, calls: int | None = 1) -> Gate:
        """A closed gate before the next `calls` responses, which are those of `then`. None: before all."""
        gate = Gate(self._journal.bell)
        gated = Gated(gate, then or Answer())
        if calls is None:
            self.always(deployment, gated)
        else:
            self.behave(deployment, *[gated] * calls)
        return gate

    def reset(self) -> None:
        """Forget all behaviours and all calls. Stored responses stay."""
        self._orders.clear()
        self._journal.clear()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        entry = self._journal.begin(_call(request))
        try:
            response = await self._response(request, entry)
            return await send(request, response, entry)
        finally:
            entry.note(left=not entry.call.finished)

    async def _response(self, request: web.Request, entry: Entry) -> Response:
        try:
            entry.note(body=await request.read())
            return self._respond(request, entry)
        except web.RequestPayloadError:
            return azure.error(400)
        except Refused as refused:
            return refused.response

    def _respond(self, request: web.Request, entry: Entry) -> Response:
        """Check the path, the credential, the body and the deployment. Raises Refused."""
        route = gateway.route(request.method, request.path, request.query.get("api-version", ""))
        entry.note(form=route.form, api=route.api, deployment=route.deployment)
        gateway.check_credential(request.headers, route.form, self._keys, self._bearers)
        if route.stored:
            turn = self._turns.find(route.stored)
            context = self._context(turn.deployment, route, entry)
            parsed: ApiRequest = stored.parse(turn, route.action, request.query, context)
        else:
            fields = body.parse(entry.call.body)
            context = self._context(route.deployment or body.model(fields), route, entry)
            context.settings.check_api(route.api, context.deployment)
            parsed = APIS[route.api](fields, context)
        behaviour = self._orders.take(context.deployment, parsed.prompt)
        entry.note(behaviour=behaviour)
        pace = context.settings.tokens_per_second
        return behaviour.respond(parsed).at_pace(self._tokens_per_second if pace is None else pace)

    def _context(self, name: str, route: Route, entry: Entry) -> Context:
        entry.note(deployment=name)
        created, salt = (0, b"") if self._repeatable else (int(time.time()), secrets.token_bytes(16))
        return Context(name, self._deployment(name), route.api_version, created, salt, self._turns)

    def _deployment(self, name: str) -> Deployment:
        if self._deployments is None:
            return Deployment()
        if name not in self._deployments:
            raise Refused(azure.error(404))
        return self._deployments[name]


def _call(request: web.Request) -> Call:
    path, _, query = request.raw_path.partition("?")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
    return Call(request.method, path, query, tuple(headers))
