"""A process has one Redis client, however many stores it makes."""

import psutil

from infra.granted.session import SessionStore
from infra.jobs.batches import BatchMemory
from infra.jobs.reports import sinks_of
from infra.jobs.store import JobStore


def test_stores_share_one_pool_of_connections(servers):
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


def test_stages_share_one_callback_sink(embedded):
    configured = embedded.model_copy(update={"redis_url": None, "callback_url": "http://127.0.0.1:9/callback"})
    assert sinks_of(configured) == sinks_of(configured)
