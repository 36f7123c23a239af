"""Each call as a span in Application Insights, through OpenTelemetry, in a thread of its own.

Its packages take a fifth of a second and 23 MB: nothing of them is imported where no connection string is
set, and where one is, not before the first answers are out. A request only puts its line down.
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
"""Between two looks at what was put down. A worker that is killed loses as much."""

MOST_WAITING = 100
"""In a round: 20 a second, as host.json samples all else. A span costs as much as a call, so the latest serve
as a sample; every call has its line in the log."""


class Telemetry:
    """Sends what `put` was given, a few seconds later. The thread begins with the first call."""

    def __init__(self, connection_string: str, role: str, round_seconds: float = ROUND_SECONDS) -> None:
        self._connection_string = connection_string
        self._role = role
        self._round_seconds = round_seconds
        self._waiting: deque[tuple[LoggedCall, Trace, int]] = deque(maxlen=MOST_WAITING)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, line: LoggedCall, trace: Trace) -> None:
        """A call that has just ended, and its trace. Never waits."""
        self._waiting.append((line, trace, time.time_ns()))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Send what is waiting, but not for longer than this."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        self._ending.wait(self._round_seconds)
        try:
            provider = _provider(self._connection_string, self._role)
        except (ImportError, ValueError, OSError):  # not installed whole, or no connection string at all
            _log.exception("Application Insights gets no spans: OpenTelemetry could not be set up")
            self._waiting = deque(maxlen=0)
            return
        tracer = provider.get_tracer(__name__)
        while True:
            while self._waiting:
                _span(tracer, *self._waiting.popleft())
            if self._ending.wait(self._round_seconds) and not self._waiting:
                provider.shutdown()
                return


def _provider(connection_string: str, role: str) -> TracerProvider:
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter  # noqa: PLC0415 - see above
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": role}), shutdown_on_exit=False)
    exporter = AzureMonitorTraceExporter(
        connection_string=connection_string, tracer_provider=provider, disable_offline_storage=True
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _span(tracer: Tracer, line: LoggedCall, trace: Trace, ended_ns: int) -> None:
    """Names by OpenTelemetry's "Semantic conventions for generative AI systems"."""
    from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415 - see above
    from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

    carrier = {name.decode(): value.decode("latin-1") for name, value in trace.items()}
    span = tracer.start_span(
        f"chat {line.model}",
        context=tracecontext.TraceContextTextMapPropagator().extract(carrier),
        kind=SpanKind.CLIENT,
        start_time=ended_ns - line.total_ms * 1_000_000,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "az.ai.openai",
            "gen_ai.request.model": line.model,
            "gen_ai.usage.input_tokens": line.prompt_tokens,
            "gen_ai.usage.output_tokens": line.completion_tokens,
            "proxy.status": line.status,
            "proxy.request_id": line.request_id,
            "proxy.event": line.event,
            "proxy.user": line.user,
            "proxy.deployment": line.deployment,
            "proxy.ending": line.ending,
            "proxy.attempts": line.attempts,
        },
    )
    if line.first_byte_ms is not None:
        span.set_attribute("proxy.first_byte_ms", line.first_byte_ms)
    if line.status >= 400 or line.ending == "cut":
        span.set_status(Status(StatusCode.ERROR, line.ending))
    span.end(ended_ns)
