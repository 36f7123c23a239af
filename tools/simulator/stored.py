"""The routes of Responses below `/{id}`: read, delete, cancel, and list the input."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import azure
from .azure import Refused
from .behaviours import Answer, ApiRequest, Context
from .journal import NOTHING
from .turns import Turn
from .wire import Response

_LIMIT = "20"


@dataclass(frozen=True, slots=True)
class StoredRequest(ApiRequest):
    context: Context
    turn: Turn
    action: str
    query: Mapping[str, str]
    prompt: str = ""
    stream: bool = False

    def respond(self, _: Answer) -> Response:
        return self.whole(self._data(), NOTHING, None)

    def _data(self) -> Any:
        if self.action == "input_items":
            return _page(self.turn.input, self.query)
        if self.action == "GET":
            return self.turn.response
        self.context.turns.delete(self.turn)
        return {"id": self.turn.response["id"], "object": "response", "deleted": True}


def parse(turn: Turn, action: str, query: Mapping[str, str], context: Context) -> StoredRequest:
    """Raises Refused."""
    if action == "cancel":
        raise Refused(azure.invalid_request("Cannot cancel a synchronous response."))
    if query.get("limit", _LIMIT) not in map(str, range(1, 101)):
        raise Refused(azure.invalid_request("Invalid 'limit': expected 1 to 100.", "limit", "invalid_value"))
    return StoredRequest(context, turn, action, query)


def _page(items: tuple[dict[str, Any], ...], query: Mapping[str, str]) -> Any:
    """The newest first, unless `order` is asc."""
    ordered = items if query.get("order") == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    end = start + int(query.get("limit", _LIMIT))
    page = ordered[start:end]
    first, last = (page[n]["id"] if page else None for n in (0, -1))
    return {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": end < len(ids)}
