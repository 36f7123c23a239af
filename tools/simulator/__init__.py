"""A simulated Azure OpenAI: it checks requests, responds as Azure does, fails on demand and keeps a journal.

async with Simulator(keys={"sim-key"}) as simulator:
    simulator.behave("gpt-4o", RateLimited(retry_after_ms=500))
    ...  # send a request to simulator.url
    assert simulator.calls[-1].status == 429

It speaks chat completions, Responses, embeddings and images. To add an API: write a module like
embeddings.py, and add its path to `APIS` in server.py and to gateway.py.
"""

from .behaviours import Answer as Answer
from .behaviours import Behaviour as Behaviour
from .behaviours import CutBody as CutBody
from .behaviours import CutStream as CutStream
from .behaviours import EveryOther as EveryOther
from .behaviours import Failure as Failure
from .behaviours import FilteredPrompt as FilteredPrompt
from .behaviours import Garbage as Garbage
from .behaviours import RateLimited as RateLimited
from .behaviours import Raw as Raw
from .behaviours import RawSocket as RawSocket
from .behaviours import RawStream as RawStream
from .behaviours import ResetBeforeHeaders as ResetBeforeHeaders
from .behaviours import Slow as Slow
from .behaviours import StreamError as StreamError
from .behaviours import TooLong as TooLong
from .behaviours import WrongType as WrongType
from .gateway import Deployment as Deployment
from .journal import Call as Call
from .journal import Total as Total
from .journal import Usage as Usage
from .server import Simulator as Simulator
from .wire import Gate as Gate
