"""What each deployment is, and which parameters it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass

from . import refusals
from .access import Route
from .behaviours import Behaviour
from .question import Question
from .refusals import Refused

_REASONING = ("o1", "o3", "o4", "gpt-5")
_STREAM_OPTIONS_SINCE = "2024-09"
_DEFAULT_MODEL = "gpt-4o-mini-2024-07-18"
_VERSIONS: Mapping[str, str] = {
    "gpt-35-turbo": "gpt-35-turbo",
    "gpt-4": "gpt-4-turbo-2024-04-09",
    "gpt-4o": "gpt-4o-2024-11-20",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """`model` and `refuses_max_tokens` are guessed from the deployment's name when they are not given."""

    model: str | None = None
    refuses_max_tokens: bool | None = None
    refuses_max_completion_tokens: bool = False
    context_tokens: int = 128_000
    behaviour: Behaviour | None = None

    def model_name(self, name: str) -> str:
        if self.model is not None:
            return self.model
        known = [base for base in _VERSIONS if name.startswith(base)]
        return _VERSIONS[max(known, key=len)] if known else _DEFAULT_MODEL

    def refused_caps(self, name: str) -> dict[str, str]:
        """The parameters that it refuses, and what to use instead."""
        by_name = name.startswith(_REASONING)
        refused = {}
        if by_name if self.refuses_max_tokens is None else self.refuses_max_tokens:
            refused["max_tokens"] = "max_completion_tokens"
        if self.refuses_max_completion_tokens:
            refused["max_completion_tokens"] = "max_tokens"
        return refused


def check(deployment: Deployment, name: str, asked: Question, route: Route) -> None:
    """Raises Refused for what is right in itself, but not for this deployment or version of the API."""
    instead = deployment.refused_caps(name).get(asked.cap_param or "")
    if asked.cap_param is not None and instead is not None:
        raise Refused(refusals.unsupported_parameter(asked.cap_param, instead))
    if asked.has_stream_options and route.form == "deployments" and route.api_version < _STREAM_OPTIONS_SINCE:
        message = "Unrecognized request argument supplied: stream_options"
        raise Refused(refusals.invalid_request(message))
    if asked.prompt_tokens > deployment.context_tokens:
        raise Refused(refusals.too_long(deployment.context_tokens, asked.prompt_tokens))
