"""Sends each call as a span to Application Insights, through OpenTelemetry, in a thread of its own.

To import OpenTelemetry takes a fifth of a second and 23 MB. So it is imported only if a connection string is
set, and only some seconds after the first call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ..core.trace import Trace
from .call_log import LoggedCall

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

_log = logging.getLogger(__name__)

ROUND_SECONDS = 5.0
"""The time between two rounds of sending. A killed worker loses the calls of this time."""

MOST_WAITING = 100
"""The most calls of a round: 20 a second, as host.json limits everything else. A span costs as much as a
call, so only the latest calls are sent. The log has all of them."""


class Telemetry:
    """Sends calls some seconds later. The thread starts with the first call."""

    def __init__(self, connection_string: str, role: str, round_seconds: float = ROUND_SECONDS) -> None:
        self._connection_string = connection_string
        self._role = role
        self._round_seconds = round_seconds
        self._waiting: deque[tuple[LoggedCall, Trace, int]] = deque(maxlen=MOST_WAITING)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, call: LoggedCall, trace: Trace) -> None:
        """Take a call that ended just now. Never waits."""
        self._waiting.append((call, trace, time.time_ns()))
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            thread.start()
            self._thread = thread  # only now: if no thread can start, the next call tries again

    def close(self, seconds: float = 5.0) -> None:
        """Send the waiting calls, for at most `seconds`."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        self._ending.wait(self._round_seconds)
        try:
            provider = _provider(self._connection_string, self._role)
        except Exception:  # a package is missing, or the connection string is wrong
            _log.exception("Application Insights gets no spans: OpenTelemetry could not be set up")
            self._waiting = deque(maxlen=0)
            return
        tracer = provider.get_tracer(__name__)
        while True:
            self._send_waiting(tracer)
            if self._ending.wait(self._round_seconds) and not self._waiting:
                provider.shutdown()
                return

    def _send_waiting(self, tracer: Tracer) -> None:
        """Drop calls that cannot be sent. They share one record of the log, and never end the thread."""
        failed = 0
        while self._waiting:
            try:
                _send_span(tracer, *self._waiting.popleft())
            except Exception as error:
                failed, last = failed + 1, error
        if failed:
            _log.error("Application Insights gets no spans of %d calls", failed, exc_info=last)


def _provider(connection_string: str, role: str) -> TracerProvider:
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter  # noqa: PLC0415 - see the top
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": role}), shutdown_on_exit=False)
    exporter = AzureMonitorTraceExporter(
        connection_string=connection_string, tracer_provider=provider, disable_offline_storage=True
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _send_span(tracer: Tracer, call: LoggedCall, trace: Trace, ended_ns: int) -> None:
    """The names are those of OpenTelemetry's "Semantic conventions for generative AI systems"."""
    from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415
    from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

    carrier = {name.decode(): value.decode("latin-1") for name, value in trace.items()}
    span = tracer.start_span(
        f"chat {call.model}",
        context=tracecontext.TraceContextTextMapPropagator().extract(carrier),
        kind=SpanKind.CLIENT,
        start_time=ended_ns - call.total_ms * 1_000_000,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "az.ai.openai",
            "gen_ai.request.model": call.model,
            "gen_ai.usage.input_tokens": call.prompt_tokens,
            "gen_ai.usage.output_tokens": call.completion_tokens,
            "proxy.status": call.status,
            "proxy.request_id": call.request_id,
            "proxy.event": call.event,
            "proxy.user": call.user,
            "proxy.deployment": call.deployment,
            "proxy.ending": call.ending,
            "proxy.attempts": call.attempts,
        },
    )
    if call.first_byte_ms is not None:
        span.set_attribute("proxy.first_byte_ms", call.first_byte_ms)
    if call.status >= 400 or call.ending == "cut":
        span.set_status(Status(StatusCode.ERROR, call.ending))
    span.end(ended_ns)
