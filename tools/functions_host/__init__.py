"""A local Functions host: it serves the triggers of a `function_app.py` as the host in the cloud does.

    async with FunctionsHost(Path("function_app.py"), port=0) as host:
        host.url

From the shell: `python -m tools.functions_host --port 7071`. `front.py` is the host, `local_worker.py` the
Python worker; the server is the app's own. There are no keys, CORS, functionTimeout or schedules. A method
that HTTP does not know gets 400, not 404. A request with a wrong Host is served. A call does not wait for its
whole body.
"""

from .host import FunctionsHost as FunctionsHost
from .routes import AppFault as AppFault
