"""The simulated Azure OpenAI itself: a server on loopback, and what tests do with it."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from aiohttp import web

from . import access, catalogue, planning, question, refusals
from .behaviours import Answer, Behaviour, Gated
from .control import Control
from .deployments import Deployment, check
from .gates import Gate
from .journal import Call, Entry, Journal, Total
from .orders import Orders
from .planning import Scene
from .plans import Plan
from .refusals import Refused
from .stamps import Clock, Stamps, answer_headers, base_headers, now
from .wire import send, strip_headers

_HOST = "127.0.0.1"
_MAX_BODY_BYTES = 64 * 2**20
_log = logging.getLogger("tools.simulator")
_http_log = logging.getLogger("tools.simulator.http")
_http_log.setLevel(
    logging.CRITICAL
)  # aiohttp's tracebacks about malformed requests; our own faults go to _log


class Simulator:
    """`deployments` None: any name answers. Names of the catalogue (`sim-429`) always do.

    `keys` are accepted as `api-key`, `bearers` as `Authorization: Bearer`. `tokens_per_second` 0 is full
    speed. With a seed, equal messages get equal ids; the clock gives `created`. `calls` has the last `keep`.
    """

    def __init__(
        self,
        *,
        keys: Collection[str] = ("sim-key",),
        bearers: Collection[str] = (),
        deployments: Mapping[str, Deployment] | Iterable[str] | None = None,
        tokens_per_second: float = 0.0,
        seed: int | None = None,
        clock: Clock = now,
        keep: int = 1000,
        port: int = 0,
        control: bool = False,
    ) -> None:
        self._keys, self._bearers = frozenset(keys), frozenset(bearers)
        self._deployments = _by_name(deployments)
        self._tokens_per_second = tokens_per_second
        self._stamps, self._clock = Stamps(seed, clock), clock
        self._journal, self._orders = Journal(keep), Orders()
        self._control = Control(self._journal, self._orders, self._knows) if control else None
        self._port = port
        self._runner: web.AppRunner | None = None
        self._under_way: set[asyncio.Task[object]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(strip_headers)
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, logger=_http_log, shutdown_timeout=0.5
        )
        await runner.setup()
        self._runner, self._closing = runner, False
        try:
            await web.TCPSite(runner, _HOST, self._port).start()
        except OSError:
            await self.close()
            raise
        self._port = runner.addresses[0][1]

    async def close(self) -> None:
        """Break off what is under way and free the port. A second start() takes the same port again."""
        self._closing = True
        for task in self._under_way:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self._port}"

    @property
    def calls(self) -> tuple[Call, ...]:
        return self._journal.calls

    @property
    def totals(self) -> dict[str, Total]:
        return self._journal.totals

    def total(self, deployment: str) -> Total:
        return self._journal.total(deployment)

    async def until(
        self,
        true: Callable[[tuple[Call, ...]], bool],
        timeout: float = 5.0,  # noqa: ASYNC109 a test's patience
    ) -> tuple[Call, ...]:
        """Wait until it is true of the calls, and return them. TimeoutError, with the calls, else."""
        return await self._journal.until(true, timeout)

    def behave(self, deployment: str, *behaviours: Behaviour) -> None:
        """Queue behaviours, each for one call that passes the checks of key, deployment and body."""
        self._must_know(deployment)
        self._orders.queue(deployment, behaviours)

    def always(self, deployment: str, behaviour: Behaviour) -> None:
        """For every call whose turn is not queued."""
        self._must_know(deployment)
        self._orders.always(deployment, behaviour)

    def gate(self, deployment: str, then: Behaviour | None = None, *, calls: int | None = 1) -> Gate:
        """A shut gate before the next `calls` calls (None: all from now on), which then do `then`."""
        gate = Gate()
        gated = Gated(gate, then or Answer())
        if calls is None:
            self.always(deployment, gated)
        else:
            self.behave(deployment, *[gated] * calls)
        return gate

    def reset(self) -> None:
        """Forget all behaviours and all calls."""
        self._orders.clear(None)
        self._journal.clear()

    def calm(self, deployment: str | None = None) -> None:
        """Forget the behaviours ordered for a deployment, or for all."""
        self._orders.clear(deployment)

    def _knows(self, name: str) -> bool:
        return (
            self._deployments is None
            or name in self._deployments
            or catalogue.by_deployment(name) is not None
        )

    def _must_know(self, name: str) -> None:
        if not self._knows(name):
            raise ValueError(f"no deployment {name!r}; there are {sorted(self._deployments or ())}")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._control is not None and (answer := await self._control.answer(request)):
            return answer
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 for the type checker
        self._under_way.add(task)
        try:
            return await self._serve(request, self._begin(request))
        finally:
            self._under_way.discard(task)

    def _begin(self, request: web.Request) -> Entry:
        path, _, query = request.raw_path.partition("?")
        headers = tuple(
            (name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
            for name, value in request.raw_headers
        )
        return self._journal.begin(self._clock(), request.method, path, query, headers)

    async def _serve(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        try:
            plan = await self._plan(request, entry)
            return await send(request, plan, entry)
        except (asyncio.CancelledError, ConnectionError):
            entry.note(left=not self._closing and not entry.call.finished)
            raise
        except Exception:
            _log.exception("a fault of the simulator, in call %s", entry.call.number)
            return web.json_response({"error": {"message": "a fault of the simulator"}}, status=500)

    async def _plan(self, request: web.Request, entry: Entry) -> Plan:
        trace = self._stamps.trace()
        try:
            plan = await self._decide(request, entry, trace)
        except Refused as refused:
            plan = refused.plan
        return replace(plan, headers=(*plan.headers, *base_headers(trace))) if plan.azure_headers else plan

    async def _decide(self, request: web.Request, entry: Entry, trace: str) -> Plan:
        """Azure's order: the path, the key, the deployment, the body. Raises Refused."""
        body = await _read(request)
        entry.note(body=body)
        route = access.route(request.method, request.path, request.query.get("api-version", ""))
        entry.note(form=route.form, deployment=route.deployment)
        access.check_key(request.headers, route.form, self._keys, self._bearers)
        content = question.decode(body) if route.deployment is None else None
        name = route.deployment or question.model_of(content or {})
        entry.note(deployment=name)
        deployment = self._deployment(name)
        asked = question.read(question.decode(body) if content is None else content)
        check(deployment, name, asked, route)
        turn = self._journal.add_call(name)
        behaviour = self._orders.take(name, deployment, asked.prompt)
        entry.note(behaviour=behaviour)
        scene = Scene(asked, self._stamps.sign(asked.material, deployment.model_name(name)), turn)
        return self._dressed(planning.plan(behaviour, scene), name, trace)

    def _dressed(self, plan: Plan, name: str, trace: str) -> Plan:
        if plan.status == 200 and plan.azure_headers:
            total = self._journal.total(name)
            spent = total.prompt_tokens + total.completion_tokens
            headers = answer_headers(trace, name, total.calls, spent)
            plan = replace(plan, headers=(*plan.headers, *headers))
        return planning.paced(plan, self._tokens_per_second)

    def _deployment(self, name: str) -> Deployment:
        if not self._knows(name):
            raise Refused(refusals.deployment_not_found())
        return (self._deployments or {}).get(name, Deployment())


def _by_name(deployments: Mapping[str, Deployment] | Iterable[str] | None) -> Mapping[str, Deployment] | None:
    if deployments is None or isinstance(deployments, Mapping):
        return deployments
    return {name: Deployment() for name in deployments}


async def _read(request: web.Request) -> bytes:
    """The whole body, out of its content encoding. Raises Refused where it is malformed or too large."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refused(refusals.gateway_error(413, "413", "Request body too large.")) from None
    except web.RequestPayloadError:
        raise Refused(refusals.gateway_error(400, "BadRequest", "The request body is malformed.")) from None
