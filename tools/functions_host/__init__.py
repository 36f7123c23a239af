"""A local Functions host: it serves the triggers of a `function_app.py` as the host in the cloud does.

    async with FunctionsHost(Path("function_app.py"), port=0) as host:
        host.url

From the shell: `python -m tools.functions_host --port 7071`. `front.py` is the host, `local_worker.py` the
Python worker; the server is the app's own. Known differences to the real host:
- a method that HTTP does not know gets 400, not 404;
- a request without Host, or for another host in an absolute target, is served, not refused with 400;
- a body is not read before the call, and one without a length has no limit;
- there are no keys, CORS, functionTimeout or schedules (see `run_timer`).
"""

from .host import FunctionsHost
from .routes import AppFault

__all__ = ["AppFault", "FunctionsHost"]
