"""The stored responses of a resource. As in Azure, all who have its key may read and continue them."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from .azure import Refused, invalid_request

_Json = dict[str, Any]
_MOST_TURNS = 1000
_SEAL = "gAAAAAB"


@dataclass(frozen=True, slots=True)
class Turn:
    deployment: str
    response: _Json  # as it was sent
    input: tuple[_Json, ...]  # the items of this turn and of all before it

    @property
    def context(self) -> tuple[_Json, ...]:
        """What the next turn continues."""
        return (*self.input, *self.response["output"])


class Turns:
    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._secret = secrets.token_bytes(16)

    def keep(self, turn: Turn) -> None:
        """The oldest are forgotten when there are too many."""
        self._turns[turn.response["id"]] = turn
        if len(self._turns) > _MOST_TURNS:
            del self._turns[next(iter(self._turns))]

    def delete(self, turn: Turn) -> None:
        self._turns.pop(turn.response["id"], None)

    def find(self, response_id: str) -> Turn:
        """Raises Refused."""
        if response_id not in self._turns:
            raise Refused(invalid_request(f"Response with id '{response_id}' not found.", status=404))
        return self._turns[response_id]

    def previous(self, response_id: str) -> Turn:
        """The turn that a request continues. Raises Refused."""
        if response_id not in self._turns:
            message = f"Previous response with id '{response_id}' not found."
            raise Refused(invalid_request(message, "previous_response_id", "previous_response_not_found"))
        return self._turns[response_id]

    def item(self, item_id: str) -> _Json:
        """An item of any stored turn. Raises Refused."""
        items = (item for turn in self._turns.values() for item in turn.context if item["id"] == item_id)
        if found := next(items, None):
            return found
        message = (
            f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. Try "
            "again with `store` set to true, or remove this item from your input."
        )
        raise Refused(invalid_request(message, "input"))

    def seal(self, deployment: str, item_id: str) -> str:
        """Encrypted reasoning, which only the deployment that made it can read."""
        return self._sealed(deployment, hashlib.sha256(item_id.encode()).hexdigest())

    def check_sealed(self, content: str, deployment: str) -> None:
        """Raises Refused."""
        if content != self._sealed(deployment, content.removeprefix(_SEAL)[:64]):
            message = f"The encrypted content {content[:4]}...{content[-4:]} could not be verified."
            raise Refused(invalid_request(message, code="invalid_encrypted_content"))

    def _sealed(self, deployment: str, nonce: str) -> str:
        mark = hmac.digest(self._secret, f"{nonce} {deployment}".encode("utf-8", "replace"), "sha256")
        return f"{_SEAL}{nonce}{base64.urlsafe_b64encode(mark).decode()}"


def new_id(kind: str, conversation: str, created: int, material: str) -> str:
    """In Azure's form: a part that all ids of a conversation share, the time, and a part of its own."""
    own = hashlib.sha256(material.encode("utf-8", "replace")).hexdigest()
    return f"{kind}_{conversation}00{created:08x}{own[:24]}"
