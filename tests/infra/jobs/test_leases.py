"""Leases of live and dead processes."""

import os
import subprocess
import sys

import pytest

from infra.errors import JobConflict
from infra.jobs.ids import new_job_id
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
