"""Other proxies, for `--peers`: each as its makers would run it, in an environment of its own."""

from collections.abc import Callable, Mapping
from typing import Final

from . import litellm, nginx
from .peer import LeftOut, Peer

ALL: Final[Mapping[str, Callable[[], Peer]]] = {"nginx": nginx.found, "LiteLLM": litellm.found}


def found(every: Mapping[str, Callable[[], Peer]] = ALL) -> tuple[list[Peer], dict[str, str]]:
    """Those that can be had on this machine, and of the others why not. What is missing is fetched first."""
    peers, left_out = [], {}
    for name, find in every.items():
        try:
            peers.append(find())
        except LeftOut as error:
            left_out[name] = str(error)
    return peers, left_out
