"""What the Functions worker does behind our back, made harmless by ways that survive it."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from starlette.convertors import PathConvertor

_COORDINATORS = ("azure_functions_runtime.http_v2", "azure_functions_worker.http_v2")


def silence_logs() -> None:
    """Keep credentials out of the log, and what nobody reads.

    uvicorn writes each request's address with its query; the worker resets its levels, but leaves
    filters alone. azure-core writes the keys of table rows, which are the event code and the user. The worker
    itself writes three lines for each call, "Received HTTP request for invocation" and the like, and sends
    each of them to the host: a fifth of a call's time. Its warnings stay (docs/decisions/0060).
    """
    logging.getLogger("uvicorn.access").addFilter(lambda _: False)
    for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.functions"):
        logging.getLogger(name).setLevel(logging.WARNING)


def accept_every_path() -> None:
    """Let the worker's one route take paths with a line feed too.

    Its pattern for "any path" leaves them out: FastAPI then answers by itself, and the invocation that the
    host has begun waits for ever. To be called before the worker's server is built.
    """
    PathConvertor.regex = "(?s:.*)"


def freeze_modules() -> None:
    """Spare the garbage collector what was imported: some 80,000 objects, all there to stay.

    A full collection goes through all that is not frozen, and stops every stream for its time: 40 ms with
    them, 5 ms without (gc.freeze). Once, so that nothing of a later time is kept.
    """
    if not gc.get_freeze_count():
        gc.freeze()


def forget_invocation(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Let the worker's record of this call go: it would keep 2 KB of each for ever.

    Private to the worker, so every step may be missing.
    """
    references = _context_references()
    if references is None:
        return
    for name, value in headers:
        if name == b"x-ms-invocation-id":
            references.pop(value.decode("latin-1"), None)


@cache
def _context_references() -> dict[str, Any] | None:
    """Looked for once: the worker is there before the app."""
    for name in _COORDINATORS:
        if (module := sys.modules.get(name)) is None:
            continue
        coordinator = getattr(module, "http_coordinator", None)
        references = getattr(coordinator, "_context_references", None)
        if isinstance(references, dict):
            return references
    return None
