"""Records of earlier releases are migrated to today's schema, and a dump restores them."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ConfigError, StateError
from infra.jobs import dump, schema
from infra.jobs.connection import Connection
from infra.jobs.events import JobEvents
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report, Requester
from infra.jobs.store import JobStore
from infra.states import JobState

FORM_1 = Path(__file__).parent / "dumps" / "form_1.json"


def job_id(number: int) -> str:
    """The id of a job in the dump."""
    return f"kk_01JB2Q8Y7N4M3K6T9V5W1X0Z{number:02d}"


def old_records() -> list[dict[str, Any]]:
    """The records of the first releases, with expiry times as if just written."""
    found = [json.loads(line) for line in FORM_1.read_text().splitlines()]
    return [
        {name: record[name] for name in ("key", "type", "value")}
        | {"expires": time.time() + record["left"] if record["left"] else None}
        for record in found
    ]


@pytest.fixture
def empty_database(servers) -> Iterator[Any]:
    """An empty database on the tests' Valkey that no other test uses."""
    with schema.maintenance_client(url_of(servers, 7)) as client:
        client.flushdb()
        yield client
        client.flushdb()


def url_of(servers, number: int) -> str:
    return servers.settings.redis_url.get_secret_value().removesuffix("/0") + f"/{number}"


@pytest.fixture
def old_database(empty_database) -> Any:
    dump.load(empty_database, old_records())
    empty_database.delete(schema.SCHEMA_KEY)
    return empty_database


def test_records_without_a_version_are_version_1_and_an_empty_database_is_current(empty_database):
    assert schema.version_of(empty_database) == schema.VERSION
    empty_database.set("kangklip:totals", "x")
    assert schema.version_of(empty_database) == 1


def test_migrated_records_of_version_1_keep_their_content(old_database, servers):
    assert schema.migrate(old_database) == 1
    assert old_database.get(schema.SCHEMA_KEY) == str(schema.VERSION)
    jobs = {number: JobStore(Connection(url_of(servers, 7)), 3600).get(job_id(number)) for number in range(1, 8)}
    assert [job.status for job in jobs.values()] == [
        JobState.QUEUED,
        JobState.FAILED,
        JobState.RUNNING,
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.QUEUED,
        JobState.QUEUED,
    ]
    assert [number for number, job in jobs.items() if job.is_cancelled] == [5]
    assert [key for key in schema.job_keys(old_database) if old_database.hget(key, "cancelled")] == [
        f"kangklip:job:{job_id(5)}"
    ]
    assert [job.attempt for job in jobs.values()] == [1, 1, 1, 1, 1, 2, 1]
    assert jobs[3].message == ""
    assert (jobs[4].cost_usd, jobs[4].progress, jobs[7].owner) == (0.125, 100, "")
    assert jobs[1].request["note"] == "é 日本"
    assert all(job.flow_run_id for number, job in jobs.items() if number not in (2, 6))
    assert {job.job_id for job in JobStore(Connection(url_of(servers, 7)), 3600).recent(20)} == {
        job.job_id for job in jobs.values()
    }


def test_repeated_and_concurrent_migrations_change_nothing(old_database):
    with ThreadPoolExecutor(4) as pool:
        forms = list(pool.map(lambda _: schema.migrate(old_database), range(4)))
    assert set(forms) <= {1, schema.VERSION}
    before = list(dump.dump(old_database))
    assert schema.migrate(old_database) == schema.VERSION
    assert without_times(dump.dump(old_database)) == without_times(before)


def test_jobs_that_waited_before_they_were_counted_are_counted(empty_database, servers):
    store = JobStore(Connection(url_of(servers, 7)), 3600)
    ids = [new_job_id() for _ in range(3)]
    for each in ids:
        store.create(each, "{}", Requester(owner="ann", client="ann"))
    store.report(Report(job_id=ids[0]))
    empty_database.delete("kangklip:waiting", "kangklip:waiting:clients", "kangklip:jobs:ann")
    empty_database.set(schema.SCHEMA_KEY, 2)
    for _ in range(2):
        assert schema.migrate(empty_database) in (2, schema.VERSION)
        assert set(empty_database.hkeys("kangklip:waiting")) == set(ids[1:])
        assert list(empty_database.hgetall("kangklip:waiting:clients").values()) == ["2"]
        assert [job.job_id for job in store.recent(5, "ann")] == ids[::-1]


def without_times(records) -> list[dict[str, Any]]:
    return [record | {"expires": record["expires"] is not None} for record in records]


def test_records_of_a_newer_version_are_left_alone(old_database):
    old_database.set(schema.SCHEMA_KEY, schema.VERSION + 1)
    before = list(dump.dump(old_database))
    with pytest.raises(ConfigError, match="install a newer one"):
        schema.migrate(old_database)
    assert without_times(dump.dump(old_database)) == without_times(before)


def test_a_dump_loads_back_unchanged(old_database, servers):
    schema.migrate(old_database)
    dumped = list(dump.dump(old_database))
    kept = {record["key"] for record in dumped}
    assert kept == {
        key
        for key in old_database.scan_iter("*")
        if "rate:" not in key and "session:" not in key and not key.endswith(":lease")
    }
    assert {record["type"] for record in dumped} == {"string", "hash", "set", "zset", "stream"}
    assert old_database.exists(f"kangklip:job:{job_id(3)}:lease")
    assert dump.clear(old_database) > len(dumped)
    assert list(old_database.scan_iter("*")) == []
    gone = dumped[-1] | {"key": "kangklip:gone", "expires": time.time() - 1}
    assert dump.load(old_database, [*json.loads(json.dumps(dumped)), gone]) == len(dumped) - 1
    again = list(dump.dump(old_database))
    plain = [json.loads(json.dumps(record)) for record in again]
    assert without_times(plain) == without_times(json.loads(json.dumps(dumped)))
    lives = [(one["expires"], other["expires"]) for one, other in zip(dumped, again, strict=True) if one["expires"]]
    assert lives
    assert all(abs(one - other) < 2 for one, other in lives)
    store = JobStore(Connection(url_of(servers, 7)), 3600)
    assert JobEvents(store.connection).last_id(job_id(4)) == next(
        record["value"][-1][0] for record in dumped if record["key"].endswith(f"{job_id(4)}:events")
    )


def test_a_restored_backup_brings_no_deleted_job_back(old_database, servers):
    schema.migrate(old_database)
    before = list(dump.dump(old_database))
    store = JobStore(Connection(url_of(servers, 7)), 3600)
    deleted = next(job.job_id for job in store.recent(100) if job.has_ended)
    assert store.begin_deletion(deleted)
    dump.clear(old_database)
    dump.load(old_database, before)
    assert (store.get(deleted), JobEvents(store.connection).last_id(deleted)) == (None, "0")
    assert not {deleted} & {job.job_id for job in [*store.recent(100), *store.active()]}
    assert (
        len(store.recent(100))
        == sum(record["key"].count(":") == 2 and "job:" in record["key"] for record in before) - 1
    )


@pytest.mark.parametrize("wrong", [{"key": "other:thing"}, {"type": "module"}])
def test_foreign_records_are_refused(empty_database, wrong):
    record = {"key": "kangklip:totals", "type": "string", "value": "x", "expires": None}
    with pytest.raises(StateError, match="damaged record"):
        dump.load(empty_database, [record | wrong])
