"""An hour of faults on this machine: is anything lost, is anything over a limit, does anything grow?

`python3 dev.py soak` starts the tables behind a relay that can fail, a simulated Azure OpenAI and three
instances of the app. `load.py` has the attendees, `fleet.py` the instances and what goes wrong, `accounts.py`
the sums at the end. It fails unless all of this is true:

- What an account is served and charged is never above its limit, and what it is charged never below what it
  is served. *Charged* is what its row says is gone, *counted* is in the table `usage`.
- *Counted* is above *served* only by the bounds of calls that were cut or left (docs/metering.md).
- *Charged* is above *counted*, and *served* above *counted*, at most by what the faults may have lost: with a
  kill, a block, what the running calls held, and counts that are not written yet; with an outage, a block.
- Each response is right and belongs to its call, or is a refusal with a reason: 503 only while the tables
  fail (and 10 seconds longer), a used-up limit only if less than a tenth may be left.
- A stream ends with its last event, an error event, or the kill of its instance.
- The instance that is never killed hardly grows in the second half (`samples.py`).
"""
