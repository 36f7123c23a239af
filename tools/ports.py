"""Ports of this machine's loopback address."""

import random
import socket
import sys

HOST = "127.0.0.1"
# Below every system's range of ephemeral ports: nobody's outgoing connection takes such a port while the
# server that it was chosen for is down between a stop and a start.
_CHOICE = range(20_000, 32_000)


def free() -> int:
    """A port that nobody listens on now; ask again should another program be quicker."""
    return next(port for port in random.sample(_CHOICE, len(_CHOICE)) if is_free(port))


def next_free(first: int) -> int:
    return next(port for port in range(first, 65_536) if is_free(port))


def is_free(port: int) -> bool:
    return not _answers(port) and _can_be_bound(port)


def _answers(port: int) -> bool:
    """Asked because some systems let one bind 127.0.0.1 beside a server that has all addresses."""
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex((HOST, port)) == 0


def _can_be_bound(port: int) -> bool:
    with socket.socket() as server:
        if sys.platform != "win32":  # where the option would mean that two servers may share the port
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return False
    return True
