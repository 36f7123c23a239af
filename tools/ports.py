"""Ports of this machine's loopback address."""

import random
import socket
import sys

HOST = "127.0.0.1"
# Below every system's range of ephemeral ports: no outgoing connection takes such a port while its server is
# down between a stop and a start.
_CHOICE = range(20_000, 32_000)


def free() -> int:
    """A free port, which no other process gets from here until this one ends."""
    return next(port for port in random.sample(_CHOICE, len(_CHOICE)) if _reserved(port) and is_free(port))


def is_free(port: int) -> bool:
    return not accepts_connections(port) and _can_be_bound(port)


def _reserved(port: int) -> bool:
    """The UDP port of the same number is the lock: only one process has it, and its end frees it."""
    with socket.socket(type=socket.SOCK_DGRAM) as lock:
        try:
            lock.bind((HOST, port))
        except OSError:
            return False
        lock.detach()  # stays open until this process ends
    return True


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
