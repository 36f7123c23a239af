"""Settings of the worker's process: its loggers and its garbage collector."""

from __future__ import annotations

import gc
import logging

WORKERS_OWN = ("azure.functions", "proxy_worker", "azure_functions_runtime", "azure_functions_worker")
"""The loggers of the workers, for all versions of Python."""


def silence_logs() -> None:
    """Log only warnings of azure-core and of the workers.

    azure-core logs the keys of table rows, which are the event code and the user. The workers log up to four
    lines for each call and send each to the host, which costs more than the call (docs/decisions/0060).
    """
    for name in ("azure.core.pipeline.policies.http_logging_policy", *WORKERS_OWN):
        logging.getLogger(name).setLevel(logging.WARNING)


def freeze_modules() -> None:
    """Exclude the 80,000 objects of imported modules from garbage collection.

    A full collection stops all streams: for 40 ms with these objects, for 5 ms without. Runs only once, for
    frozen objects are never collected.
    """
    if not gc.get_freeze_count():
        gc.freeze()
