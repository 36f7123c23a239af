"""Ids and times of answers, and the headers that Azure puts on each."""

import hashlib
import secrets
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from .plans import Headers

Clock = Callable[[], datetime]
REQUESTS_PER_MINUTE = 1_000
TOKENS_PER_MINUTE = 1_000_000
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an answer is signed with."""

    id: str
    created: int
    model: str
    fingerprint: str = "fp_5154047bf2"


def now() -> datetime:
    return datetime.now(UTC)


class Stamps:
    """With a seed, equal messages get equal ids, so that two answers can be compared byte for byte."""

    def __init__(self, seed: int | None, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock
        self._traces = 0

    def sign(self, material: bytes, model: str) -> Stamp:
        salt = secrets.token_bytes(16) if self._seed is None else str(self._seed).encode()
        return Stamp("chatcmpl-" + _letters(salt + material), int(self._clock().timestamp()), model)

    def trace(self) -> str:
        """A new request id."""
        if self._seed is None:
            return str(uuid.uuid4())
        self._traces += 1
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._seed}/{self._traces}"))


def _letters(material: bytes, count: int = 29) -> str:
    number = int.from_bytes(hashlib.sha256(material).digest())
    letters = []
    for _ in range(count):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def base_headers(trace: str) -> Headers:
    """On everything that Azure answers, refusals too."""
    return (
        ("apim-request-id", trace),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("x-content-type-options", "nosniff"),
        ("x-ms-region", "East US 2"),
    )


def answer_headers(trace: str, deployment: str, calls: int, tokens: int) -> Headers:
    """On answers of the model only. The counts go down and wrap, as if each minute were exactly full."""
    return (
        ("x-request-id", trace),
        ("x-ms-deployment-name", deployment),
        ("x-ms-rai-invoked", "true"),
        ("azureml-model-session", "d20241120-simulated"),
        ("x-ratelimit-limit-requests", str(REQUESTS_PER_MINUTE)),
        ("x-ratelimit-limit-tokens", str(TOKENS_PER_MINUTE)),
        ("x-ratelimit-remaining-requests", str(REQUESTS_PER_MINUTE - calls % REQUESTS_PER_MINUTE)),
        ("x-ratelimit-remaining-tokens", str(TOKENS_PER_MINUTE - tokens % TOKENS_PER_MINUTE)),
    )
