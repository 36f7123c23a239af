"""Serves the triggers of a `function_app.py` on this machine, as the Functions host does in the cloud.

    async with FunctionsHost(Path("function_app.py"), port=0) as host:
        host.url

From the shell: `python -m tools.functions_host --port 7071`. Not reproduced: functionTimeout, the cut after
240 s without a byte, bindings other than HTTP and timer triggers, and the header x-ms-invocation-id.
"""

from .faults import AppFault
from .server import FunctionsHost
from .serving import PortInUse
from .settings import CorsPolicy, HostSettings

__all__ = ["AppFault", "CorsPolicy", "FunctionsHost", "HostSettings", "PortInUse"]
