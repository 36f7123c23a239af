"""`python3 dev.py attack [--only NAME] [--quick]`: attacks, and fails if an attack succeeds."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from tools import loops
from tools.processes import ChildError

from . import flood, left, media, text, usage
from .closing import closing
from .crowd import crowd
from .flood import HEADING, Note, Outcome, Plan
from .kill import kill
from .loop import loop
from .stage import DAY, TOTAL, Stage, opened

Named = tuple[str, Callable[[Stage, Plan], Awaitable[Outcome | Note]]]
QUICK = Plan(clients=16, instances=2, seconds=1)
FLOODS = (*text.ATTACKS, *left.ATTACKS, *media.ATTACKS, *usage.ATTACKS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 dev.py attack")
    parser.add_argument("--only", metavar="NAME", default="", help="attacks with this in their name")
    parser.add_argument("--quick", action="store_true", help="fewer clients, instances and seconds")
    options = parser.parse_args()
    attacks = [(name, attack) for name, attack in _attacks() if options.only in name]
    if not attacks:
        parser.error(
            f"No attack has {options.only!r} in its name. Use a part of: {', '.join(dict(_attacks()))}."
        )
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the simulator's clients leave
    try:
        with asyncio.Runner(loop_factory=loops.new) as runner:
            return runner.run(_run(QUICK if options.quick else Plan(), attacks))
    except ChildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(plan: Plan, attacks: list[Named]) -> int:
    failed = False
    print(f"{'attack':34} {HEADING}", flush=True)
    async with opened(plan.instances) as stage:
        for name, attack in attacks:
            result = await attack(stage, plan)
            print(f"{name:34} {result}", flush=True)
            failed |= result.failed
    return int(failed)


def _attacks() -> Iterator[Named]:
    for attack in FLOODS:
        for limit in (DAY, TOTAL):
            yield attack.name, partial(flood.run, attack=attack, limit=limit)
    yield "closing", closing
    yield "loop, valid code", partial(loop, valid=True)
    yield "loop, unknown code", partial(loop, valid=False)
    yield "crowd", crowd
    yield "kill under load", partial(kill, clients=16, pause=0, limit=1_000_000)
    yield "kill at a slow pace", partial(kill, clients=1, pause=0.4, limit=400_000)


if __name__ == "__main__":
    sys.exit(main())
