"""Ports of this machine's loopback address."""

import random
import socket
import sys

HOST = "127.0.0.1"
# Below every system's range of ephemeral ports: no outgoing connection takes such a port while its server is
# down between a stop and a start.
_CHOICE = range(20_000, 32_000)


def free() -> int:
    """A port that is free now. If another program takes it first, call this again."""
    return next(port for port in random.sample(_CHOICE, len(_CHOICE)) if is_free(port))


def is_free(port: int) -> bool:
    return not accepts_connections(port) and _can_be_bound(port)


def accepts_connections(port: int) -> bool:
    """Some systems allow a program to bind 127.0.0.1 while another one has the port on all addresses."""
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex((HOST, port)) == 0


def _can_be_bound(port: int) -> bool:
    with socket.socket() as server:
        if sys.platform != "win32":  # there, the option would let two servers share the port
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return False
    return True
