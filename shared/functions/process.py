"""Settings of the worker's process: its loggers and its garbage collector."""

from __future__ import annotations

import gc
import logging

WORKER_LOGGERS = ("azure.functions", "proxy_worker", "azure_functions_runtime", "azure_functions_worker")
"""The worker's loggers, in all versions of Python."""


def silence_logs() -> None:
    """Log only warnings of azure-core and of the worker.

    azure-core logs the keys of table rows, which are the event code and the user. The worker logs up to four
    lines for each call and sends each to the host, which costs more than the call (docs/decisions/0063).
    """
    for name in ("azure.core.pipeline.policies.http_logging_policy", *WORKER_LOGGERS):
        logging.getLogger(name).setLevel(logging.WARNING)


def freeze_modules() -> None:
    """Exclude the 80,000 objects of imported modules from garbage collection.

    A full collection stops all streams: for 40 ms with these objects, for 5 ms without. Done only once,
    because frozen objects are never collected.
    """
    if not gc.get_freeze_count():
        gc.freeze()
