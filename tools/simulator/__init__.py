"""A simulated Azure OpenAI: chat completions on both API forms, misbehaviour on demand, a memory of calls.

async with Simulator(keys={"sim-key"}) as simulator:
    simulator.behave("gpt-4o", RateLimited(retry_after_ms=500))
    ...  # call simulator.url
    assert simulator.calls[-1].status == 429
"""

from .behaviours import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    EveryOther,
    Failure,
    FilteredAnswer,
    FilteredPrompt,
    Garbage,
    Gated,
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
from .deployments import Deployment
from .gates import Gate
from .journal import Call, Total
from .plans import Usage
from .server import Simulator

__all__ = [
    "Answer",
    "Behaviour",
    "Call",
    "CutBody",
    "CutStream",
    "Deployment",
    "EveryOther",
    "Failure",
    "FilteredAnswer",
    "FilteredPrompt",
    "Garbage",
    "Gate",
    "Gated",
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
