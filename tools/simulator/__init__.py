"""A simulated Azure OpenAI: it checks requests, responds as Azure does, fails on demand and keeps a journal.

async with Simulator(keys={"sim-key"}) as simulator:
    simulator.behave("gpt-4o", RateLimited(retry_after_ms=500))
    ...  # send a request to simulator.url
    assert simulator.calls[-1].status == 429

To add an API: write a module like chat.py, and add its path to `APIS` in server.py.
"""

from .behaviours import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    EveryOther,
    Failure,
    FilteredPrompt,
    Garbage,
    RateLimited,
    Raw,
    RawSocket,
    RawStream,
    ResetBeforeHeaders,
    Slow,
    StreamError,
    TooLong,
    WrongType,
)
from .gateway import Deployment
from .journal import Call, Total, Usage
from .server import Simulator
from .wire import Gate

__all__ = [
    "Answer",
    "Behaviour",
    "Call",
    "CutBody",
    "CutStream",
    "Deployment",
    "EveryOther",
    "Failure",
    "FilteredPrompt",
    "Garbage",
    "Gate",
    "RateLimited",
    "Raw",
    "RawSocket",
    "RawStream",
    "ResetBeforeHeaders",
    "Simulator",
    "Slow",
    "StreamError",
    "TooLong",
    "Total",
    "Usage",
    "WrongType",
]
