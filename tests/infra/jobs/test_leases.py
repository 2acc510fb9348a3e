"""Leases of live and dead processes."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import JobConflict
from infra.jobs.ids import new_job_id
from infra.jobs.keys import lease_key
from infra.jobs.store import JobStore


def test_only_the_lease_of_a_dead_process_can_be_taken(stack):
    store, job_id = JobStore.from_settings(stack.settings), new_job_id()
    store.create(job_id, "{}")
    take = "import sys; from infra.jobs.store import JobStore; from infra import settings\n"
    take += "print(JobStore.from_settings(settings.load()).leases.hold(sys.argv[1]), flush=True); sys.stdin.read()"
    environment = os.environ | stack.environment()
    holder = subprocess.Popen(
        [sys.executable, "-c", take, job_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert holder.stdout.readline().strip() == "True"
    assert not store.leases.hold(job_id)
    with pytest.raises(JobConflict, match="another process"):
        store.reopen(job_id, after=1)
    holder.kill()
    holder.wait()
    assert store.leases.hold(job_id)
    assert store.reopen(job_id, after=1) == 2
    store.leases.release(job_id)


def test_a_kept_lease_is_renewed_and_excludes_even_its_own_process(servers, monkeypatch):
    monkeypatch.setattr("infra.jobs.leases.LEASE_SECONDS", 1)
    store, job_id = JobStore.from_settings(servers.settings), new_job_id()
    with store.leases.kept(job_id) as is_kept:
        assert is_kept
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            with store.leases.kept(job_id) as again:
                assert not again
            assert store.leases.is_held(job_id)
            time.sleep(0.1)
    assert not store.leases.is_held(job_id)


def test_an_expiring_lease_never_has_two_holders(servers):
    """Its holder renews it and another store takes it at the moment when it expires: one of the two gets it."""
    stores = [JobStore.from_settings(servers.settings) for _ in range(2)]
    redis, name, together = stores[0].connection.client, new_job_id(), threading.Barrier(2)

    def hold(store):
        together.wait(60)
        return store.leases.hold(name)

    outcomes = []
    with ThreadPoolExecutor(2) as pool:
        for number in range(200):
            redis.set(lease_key(name), stores[0].leases.holder, px=1)
            time.sleep(number % 10 * 1e-4)  # the lease expires before, between and after the two calls
            outcomes.append(tuple(pool.map(hold, stores)))
    redis.delete(lease_key(name))
    assert set(outcomes) <= {(True, False), (False, True)}
