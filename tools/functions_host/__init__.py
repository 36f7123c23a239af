"""A local Functions host: it serves the triggers of a `function_app.py` as the host in the cloud does.

    async with FunctionsHost(Path("function_app.py"), port=0) as host:
        host.url

From the shell: `python -m tools.functions_host --port 7071`. `front.py` is the host, `worker.py` the Python
worker; the server is the app's own. Known differences to the real host: a method that HTTP does not know gets
400, not 404; the host does not read a body before it calls the app; and it has no keys, CORS, functionTimeout
or schedules (see `run_timer`).
"""

from .faults import AppFault, PortInUse
from .host import FunctionsHost

__all__ = ["AppFault", "FunctionsHost", "PortInUse"]
