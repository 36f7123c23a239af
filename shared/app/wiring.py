"""Builds the proxy from its settings, and closes what it opened."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial

import aiohttp

from ..core.errors import ProxyError
from ..core.models import Credential
from ..core.settings import Settings
from ..desk.readings import Readings
from ..events.lookup import Events
from ..quota.quota import Quota
from ..tables.retention import Retention
from ..tables.service import open_service
from ..tables.tables import Tables
from ..upstream.client import Upstream
from ..upstream.connections import Connections
from ..upstream.forwarding import Forwarding, Timeouts
from ..upstream.health import HealthWriter
from ..upstream.identity import IdentityTokens, default_credential
from ..upstream.relay import StreamLimits
from ..upstream.routing import Routing
from ..usage.call_log import CallLog
from ..usage.spans import Telemetry
from ..usage.tally import Tally
from .bodies import Bodies
from .calls import Calls
from .claims import Claims
from .desk import Desk
from .listings import Listings
from .proxy import Proxy
from .readiness import Readiness
from .records import Records
from .stored_responses import StoredResponses
from .stored_turns import StoredTurns

KEEP_ALIVE_SECONDS = 50
"""Shorter than the 60 s after which Azure's front ends drop an idle connection."""

SMALL_BODY_BYTES, SMALL_BODIES_BYTES = 4096, 1_000_000
"""Limits for the bodies of clients that have no credential yet: of one, and of all of them together."""

TABLES_KEEP_ALIVE_SECONDS = 4
"""Azurite closes an idle connection after 5 s. A write that is sent at that moment would fail."""


class Wiring:
    """One proxy and everything that it uses. Create it inside a running loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        credential = None if settings.tables else default_credential(settings.tables_client_id)
        self._table_credential = credential
        self.tables = Tables(open_service(settings.tables, settings.tables_uri, credential, table_session()))
        self._connections = Connections(settings.upstream_connect_seconds, KEEP_ALIVE_SECONDS)
        self._tokens = IdentityTokens(settings.upstream_scope, settings.tables_client_id)
        upstream = Upstream(self._connections, settings.key, self._tokens)
        now = self._now = partial(datetime.now, UTC)
        self.health = HealthWriter(self.tables, now)
        self._telemetry = Telemetry(settings.telemetry, settings.site) if settings.telemetry else None
        self.call_log = CallLog(self._telemetry.put if self._telemetry else None)
        self.quota = Quota(self.tables, settings.quota_idle_seconds, time.monotonic)
        self.retention = Retention(self.tables, settings.keep_usage_days, settings.keep_quota_days, now)
        self.tally = Tally(self.tables, settings.usage_flush_seconds, now, time.monotonic)
        self.bodies = Bodies(
            settings.max_body_bytes, settings.max_bodies_bytes, settings.longest_body_seconds
        )
        self.small_bodies = Bodies(
            SMALL_BODY_BYTES, SMALL_BODIES_BYTES, settings.longest_body_seconds, "Send only its members."
        )
        events = self._events()
        self.routing = routing = Routing(self.tables, settings.cache_seconds, time.monotonic, self.health.put)
        self.desk = Desk(
            events,
            self.tables.attendees,
            self.tables.desk,
            Readings(self.tables.desk, now, time.monotonic),
            now,
            settings.cache_seconds,
        )
        self.readiness = Readiness(self.tables, time.monotonic)
        self.listings = Listings(events, routing, self.quota, now)
        self.claims = Claims(events, self.tables.attendees, now, time.monotonic)
        seconds = settings.upstream_timeout_seconds
        self.stored = StoredResponses(events, routing, self.quota, upstream, now, time.monotonic, seconds)
        self.proxy = self._proxy(
            Calls(events, routing, StoredTurns(upstream), settings.default_output_tokens), upstream
        )

    def _events(self) -> Events:
        def count_wrong_pass(stated: Credential, error: ProxyError) -> None:
            self.tally.count_failure(stated, "", self._now(), error)

        seconds = self.settings.cache_seconds
        return Events(self.tables, seconds, time.monotonic, count_wrong_pass=count_wrong_pass)

    def _proxy(self, calls: Calls, upstream: Upstream) -> Proxy:
        settings = self.settings
        timeouts = Timeouts(settings.upstream_first_byte_seconds, settings.upstream_timeout_seconds)
        return Proxy(
            calls,
            quota=self.quota,
            forwarding=Forwarding(upstream, timeouts, time.monotonic, self.bodies.turns),
            records=Records(self.tally, self.call_log, time.monotonic),
            stream_limits=StreamLimits(
                settings.heartbeat_seconds, settings.upstream_idle_seconds, settings.longest_stream_seconds
            ),
            now=self._now,
        )

    async def close(self) -> None:
        """Write what is in memory, then close the connections."""
        await self.proxy.close()
        self.call_log.close()
        await self.tally.close()
        await self.health.close()
        await self.quota.close()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.close)
        await self._connections.close()
        await self._tokens.close()
        await self.tables.close()
        if self._table_credential is not None:
            await self._table_credential.close()


def table_session(keep_alive_seconds: float = TABLES_KEEP_ALIVE_SECONDS) -> aiohttp.ClientSession:
    """A session like that of azure-core, except that it does not read the environment.

    aiohttp would look there for a proxy and a .netrc before each call, in a thread.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(keepalive_timeout=keep_alive_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
