"""A process has one client of Redis, however many stores are made."""

import psutil

from infra.granted.session import SessionStore
from infra.jobs.batches import BatchMemory
from infra.jobs.reports import sinks_of
from infra.jobs.store import JobStore


def test_many_stores_share_their_connections(servers):
    configured = servers.settings
    address = configured.redis_url.get_secret_value().rpartition("@")[2]
    port = int(address.partition("/")[0].rpartition(":")[2])

    def connections():
        return [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]

    first = JobStore.from_settings(configured)
    first.connection.ping()
    before = len(connections())
    kept = []
    for number in range(5):
        jobs = JobStore.from_settings(configured)
        sessions, memory = SessionStore(jobs), BatchMemory.from_settings(configured, f"b{number}")
        jobs.connection.ping()
        sessions.find("kks_nobody")
        memory.open_entries()
        kept += [jobs, sessions, memory]
    assert before >= 1
    assert len(connections()) == before


def test_stages_share_the_sink_that_calls_back(embedded):
    configured = embedded.model_copy(update={"redis_url": None, "callback_url": "http://127.0.0.1:9/callback"})
    assert sinks_of(configured) == sinks_of(configured)
