"""What the app changes in the worker's process: its loggers and its garbage collector."""

from __future__ import annotations

import gc
import logging
from typing import Final

WORKERS_OWN: Final = ("azure.functions", "proxy_worker", "azure_functions_runtime", "azure_functions_worker")
"""The loggers of the workers of all Python versions."""


def silence_logs() -> None:
    """Keep credentials out of the log, and lines that no one reads.

    azure-core writes the keys of table rows, which are the event code and the user. The workers write up to
    four lines for each call and send each to the host: together they cost more than the call
    (docs/decisions/0060). Their warnings stay.
    """
    for name in ("azure.core.pipeline.policies.http_logging_policy", *WORKERS_OWN):
        logging.getLogger(name).setLevel(logging.WARNING)


def freeze_modules() -> None:
    """Spare the garbage collector the 80,000 objects of imported modules, which never become garbage.

    A full collection visits every object that is not frozen, and stops all streams while it does: for 40 ms
    with these objects, for 5 ms without (gc.freeze). Done once, so that nothing that is made later is kept.
    """
    if not gc.get_freeze_count():
        gc.freeze()
