"""What can be wrong with an app before it serves anything."""


class AppFault(Exception):
    """The app cannot be served; the message is one sentence that says why and where."""
