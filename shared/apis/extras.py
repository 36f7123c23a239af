"""Members of a body that make a call cost more than its tokens. Events with a budget do not allow them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ..core.errors import UnsupportedValue

_ABSENT = msgspec.Raw(b"null")
_FREE_TIERS = (b"null", b'"auto"', b'"default"', b'"flex"')
"""The others, such as `priority`, cost up to two and a half times the price."""


class Extras(msgspec.Struct, frozen=True):
    """A part of the members that policy reads, in every API."""

    service_tier: msgspec.Raw = _ABSENT
    web_search_options: msgspec.Raw = _ABSENT


class HasExtras(Protocol):
    """A request whose form has `Extras`."""

    @property
    def service_tier(self) -> msgspec.Raw: ...

    @property
    def web_search_options(self) -> msgspec.Raw: ...


def check_extras(request: HasExtras) -> None:
    """Raises UnsupportedValue if a member adds to the cost of the call."""
    if bytes(request.service_tier) not in _FREE_TIERS:
        raise UnsupportedValue(
            "This event has a budget, and this 'service_tier' costs more than the usual price. "
            "Leave it out, or use 'default'.",
            "service_tier",
        )
    if request.web_search_options != _ABSENT:
        raise UnsupportedValue(
            "This event has a budget, and a web search costs more than tokens. "
            "Leave 'web_search_options' out.",
            "web_search_options",
        )
