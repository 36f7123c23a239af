"""Why an app cannot be served."""


class AppFault(Exception):
    """The app cannot be served. The message is one sentence that names the fault and its place."""


class PortInUse(AppFault):
    pass
