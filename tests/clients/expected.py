"""What each client does. `matrix.py` tries it, and prints a table of what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.clients.client import STEPS

CHAT, RESPONSES = "chat/completions", "responses"
MOST_PATIENCE_SECONDS = 240.0
"""For clients that repeat a refused call for longer than a minute, also on a slow machine."""


@dataclass(frozen=True)
class Expected:
    """A client does all that its program has a step for, and shows our messages; but for `others`."""

    api: str = CHAT
    """The API that the client uses by default."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Cells of the table that differ. A comment gives the reason."""
    quota_seconds: float = 30
    """Until it shows that the quota is used up. The start of a Python or Node.js program does not count: some
    import for half a minute on a slow machine."""

    def cells(self, steps: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        works = {name: "-" if steps.get(name) == {} else "yes" for name in STEPS}
        cut = "clear" if works["stream"] == "yes" else "-"
        return {"API": self.api, **works, "quota": "clear", "cut": cut, **self.others}


CLIENTS: dict[str, Expected] = {
    "ai_sdk": Expected(RESPONSES),
    "aider_cli": Expected(quota_seconds=MOST_PATIENCE_SECONDS),  # repeats each failure for a minute
    "azure_ai_inference": Expected(others={"cut": "error"}),  # passes over the error event
    "codex_cli": Expected(RESPONSES),
    "continue_cli": Expected(quota_seconds=MOST_PATIENCE_SECONDS),  # repeats it ten times, for 90 s
    "microsoft_agent_framework": Expected(RESPONSES),
    "openai_agents_javascript": Expected(RESPONSES),
    "openai_agents_python": Expected(RESPONSES),
    "opencode_cli": Expected(quota_seconds=MOST_PATIENCE_SECONDS),  # repeats each failure for a minute
    "pydantic_ai_openai": Expected(RESPONSES),
    "smolagents_openai": Expected(others={"quota": "waits"}),  # sleeps for minutes after any 429
}
