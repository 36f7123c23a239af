"""Builds the proxy from its settings, and closes what it opened."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

import aiohttp

from .connections import Connections
from .events import Events
from .identity import IdentityTokens, default_credential
from .metering import Meter
from .proxy import Proxy, StreamLimits
from .quota import Quota
from .routing import Routing
from .settings import Settings
from .tables import Tables, open_service
from .upstream import Deadlines, Upstream

KEEP_ALIVE_SECONDS = 50
"""Shorter than the 60 s after which Azure's front ends drop an idle connection."""

TABLES_KEEP_ALIVE_SECONDS = 4
"""Of an idle connection. Azurite closes one after 5 s: a write that meets that moment would fail."""


class Wiring:
    """One proxy with everything under it. Build it inside a running loop; it serves until `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        credential = None if settings.tables else default_credential(settings.tables_client_id)
        self._table_credential = credential
        session = table_session()
        self.tables = Tables(open_service(settings.tables, settings.tables_uri, credential, session))
        self._connections = Connections(settings.upstream_connect_seconds, KEEP_ALIVE_SECONDS)
        self._tokens = IdentityTokens(settings.upstream_scope, settings.tables_client_id)
        deadlines = Deadlines(settings.upstream_first_byte_seconds, settings.upstream_timeout_seconds)
        self.meter = Meter()
        self.quota = Quota(self.tables, settings.quota_idle_seconds, time.monotonic)
        self.proxy = Proxy(
            Events(self.tables, settings.cache_seconds, time.monotonic),
            self.quota,
            Routing(self.tables, settings.cache_seconds, time.monotonic),
            Upstream(self._connections, deadlines, settings.key, self._tokens),
            self.meter,
            StreamLimits(settings.heartbeat_seconds, settings.upstream_idle_seconds),
            settings.default_output_tokens,
            partial(datetime.now, UTC),
        )

    async def close(self) -> None:
        await self.quota.close()
        await self._connections.close()
        await self._tokens.close()
        await self.tables.close()
        if self._table_credential is not None:
            await self._table_credential.close()


def table_session(keep_alive_seconds: float = TABLES_KEEP_ALIVE_SECONDS) -> aiohttp.ClientSession:
    """As azure-core makes its own, but for how long an idle connection is kept, and without a look at the
    environment: aiohttp would look for a proxy and a .netrc before each call, in a thread."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(keepalive_timeout=keep_alive_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
