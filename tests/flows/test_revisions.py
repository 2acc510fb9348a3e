"""A state machine of everything that touches a job's revisions checks that none is lost, mixed or made twice.

Valkey and the code that publishes are real; nothing is drawn, because no clip is changed in its picture. A process may
die before any of its writes. The short test keeps the objects in a dictionary, so that readers can look after every
single write of many sequences; the long one uses the real bucket, and readers look between the steps.

`REVISION_EXAMPLES` and `REVISION_SEED` set the number of sequences of the long test and its seed.
"""

import datetime as dt
import os
import random
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flows.recut import make_revision
from flows.recut_lifecycle import RecutRun
from infra.bucket.store import ArtifactStore
from infra.errors import JobConflict, NewerRevision
from infra.jobs.ids import new_job_id
from infra.jobs.keys import lease_key
from infra.jobs.record import JobRef, Report
from infra.jobs.recuts import Recuts
from infra.jobs.store import JobStore
from infra.states import JobState, Stage
from tasks.core.errors import RecutRefused
from tasks.core.object_keys import job_key, revision_folder
from tasks.deletion import delete_objects
from tasks.revisions import read_revision
from tasks.workspace import Workspace
from tests.editable_job import WORDS, Talk, store_published

EXAMPLES = int(os.environ.get("REVISION_EXAMPLES", "300"))
SEED = int(os.environ.get("REVISION_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
ANY = st.integers(0, 999)
RARELY = st.sampled_from([False] * 5 + [True])
DIES = st.sampled_from([0] * 20 + list(range(1, 46)))
TALK = Talk(words=WORDS[:300])


class Died(BaseException):
    """The process that did the work has died."""


class Stored(NamedTuple):
    data: bytes
    metadata: dict[str, str]


class DictionaryClient:
    """What publication needs of boto3's client, over a dictionary. It answers as the real one does."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}

    def put_object(self, **put: Any) -> None:
        self.objects[put["Key"]] = Stored(put["Body"], put["Metadata"])

    def copy_object(self, **copy: Any) -> None:
        self.objects[copy["Key"]] = self._found(copy["CopySource"]["Key"])

    def get_object(self, **get: Any) -> dict[str, Any]:
        return self.head_object(**get) | {"Body": BytesIO(self._found(get["Key"]).data)}

    def head_object(self, **head: Any) -> dict[str, Any]:
        found = self._found(head["Key"])
        return {"ContentLength": len(found.data), "Metadata": found.metadata}

    def delete_object(self, **delete: Any) -> None:
        self.objects.pop(delete["Key"], None)

    def get_paginator(self, operation: str) -> "DictionaryClient":
        assert operation == "list_objects_v2"
        return self

    def paginate(self, **listing: Any) -> list[dict[str, Any]]:
        now, keys = dt.datetime.now(dt.UTC), sorted(key for key in self.objects if key.startswith(listing["Prefix"]))
        return [{"Contents": [{"Key": k, "Size": len(self.objects[k].data), "LastModified": now} for k in keys]}]

    def _found(self, key: str) -> Stored:
        if key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return self.objects[key]


class MortalBucket(ArtifactStore):
    """A bucket whose user dies before its n-th write; 0 means never. `watch` is called after each write."""

    left = 0
    watch: Callable[[], None]
    _is_dead = False
    _one_at_a_time = threading.RLock()

    @contextmanager
    def write(self) -> Generator[None]:
        """A write to the bucket, or to the record."""
        with self._one_at_a_time:
            self.left -= 1
            self._is_dead = self._is_dead or self.left == 0
            if self._is_dead:
                raise Died
            yield
            self.watch()

    def put_bytes(self, *args: Any) -> Any:
        with self.write():
            return super().put_bytes(*args)

    def copy(self, *args: Any) -> Any:
        with self.write():
            return super().copy(*args)

    def delete(self, key: str) -> None:
        with self.write():
            super().delete(key)


class MortalRecuts:
    """The recuts of a user of a `MortalBucket`, whose writes to the record count too."""

    def __init__(self, recuts: Recuts, bucket: MortalBucket) -> None:
        self.recuts, self._real, self._bucket = self, recuts, bucket

    def keep(self, *run: Any) -> bool:
        with self._bucket.write():
            return self._real.keep(*run)

    def publish(self, *run: Any) -> bool:
        with self._bucket.write():
            return self._real.publish(*run)


class Revisions(RuleBasedStateMachine):
    configured: Any = None
    stores: list[JobStore]
    new_bucket: Callable[[], ArtifactStore]
    is_watched: bool
    """Whether readers look after each write, or only between the steps."""

    @initialize()
    def a_finished_job(self) -> None:
        self.job_id, self.jobs = new_job_id(), self.stores[0]
        self.given, self.seen, self.titles = set[int](), 1, {1: ["t", "t"]}
        self.outdated = list[tuple[int, int]]()
        self.bucket = self.new_bucket()
        assert self.jobs.create(self.job_id, "{}")
        store_published(self.job_id, self.bucket, talk=TALK)
        done = Report(job_id=self.job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100)
        assert self.jobs.report(done)

    @property
    def recut(self) -> tuple[int, int] | None:
        """Revision and attempt of the recut that is under way."""
        job = self.jobs.get(self.job_id)
        return (job.recut.revision, job.recut.attempt) if job and job.recut and not job.recut.has_ended else None

    @property
    def published(self) -> int:
        job = self.jobs.get(self.job_id)
        assert job
        return job.revision or 1

    @rule(
        off=st.sampled_from([0] * 8 + [-1, 1]),
        order=st.permutations([0, 1]),
        count=st.integers(1, 2),
        lost=RARELY,
    )
    def put(self, off: int, order: list[int], count: int, lost: bool) -> None:
        """Somebody changes the document that has a number which may no longer be the published one."""
        was_under_way, published = self.recut, self.published
        try:
            revision = self.jobs.recuts.begin(self.job_id, published + off)
        except NewerRevision:
            assert off
            return
        except JobConflict:
            assert was_under_way
            return
        assert not off
        assert not was_under_way
        assert revision > max({published, *self.given})
        self.given.add(revision)
        folder = revision_folder(published) if published > 1 or self._has_kept() else ""
        before = read_revision(self.job_id, folder, self.bucket).document
        clips = [before.clips[place % len(before.clips)] for place in order][:count]
        clips = [clip.model_copy(update={"id": f"c{n}", "title": f"r{revision}"}) for n, clip in enumerate(clips)]
        document = before.model_copy(update={"clips": clips, "revision": revision})
        self.titles[revision] = [clip.title for clip in clips]
        if not lost:
            self.bucket.put_json(job_key(self.job_id, f"{revision_folder(revision)}edit.json"), document)

    @precondition(lambda self: self.recut)
    @rule(store=ANY, dies=DIES)
    def run(self, store: int, dies: int) -> None:
        """A process runs the current attempt; it may die before any of its writes."""
        assert self.recut
        (revision, attempt), jobs = self.recut, self.stores[store % len(self.stores)]
        job, mortal = JobRef(job_id=self.job_id, revision=revision, attempt=attempt), self._mortal(dies)
        try:
            jobs.recuts.open(self.job_id, revision, attempt, str(uuid.uuid4()), jobs.leases)
        except JobConflict:
            return
        try:
            self._make(job, jobs, mortal)
        except Died:
            self.jobs.connection.client.delete(lease_key(self.job_id))
            return
        except RecutRefused:
            assert jobs.recuts.end(self.job_id, revision, attempt, JobState.FAILED, "refused")
        jobs.leases.release(self.job_id)

    def _make(self, job: JobRef, jobs: JobStore, mortal: MortalBucket) -> None:
        """What flows/recut.py does."""
        record = jobs.get(self.job_id)
        assert record
        work = Workspace(job, self.configured, lambda *_: None)
        work.store = mortal
        mortal_jobs: Any = MortalRecuts(jobs.recuts, mortal)
        make_revision(RecutRun(job, mortal_jobs, work, record.request, record.revision))
        with mortal.write():
            assert jobs.recuts.end(self.job_id, job.revision or 0, job.attempt, JobState.SUCCEEDED)

    @precondition(lambda self: not self.recut)
    @rule(order=st.permutations([0, 1]), count=st.integers(1, 2), dies=DIES)
    def put_and_run(self, order: list[int], count: int, dies: int) -> None:
        """Somebody changes the document, and a process takes it at once."""
        self.put(off=0, order=order, count=count, lost=False)
        self.run(store=0, dies=dies)

    @precondition(lambda self: self.recut)
    @rule()
    def reconcile(self) -> None:
        """The reconciler retries an attempt whose process is gone."""
        assert self.recut
        self.outdated.append(self.recut)
        assert self.jobs.recuts.retry(self.job_id, *self.recut, "It died.")

    @precondition(lambda self: self.recut)
    @rule(really=RARELY)
    def fail(self, really: bool) -> None:
        if not really or not self.recut:
            return
        self.outdated.append(self.recut)
        assert self.jobs.recuts.end(self.job_id, *self.recut, JobState.FAILED, "Cancelled.")

    @precondition(lambda self: self.outdated)
    @rule(which=ANY, what=st.sampled_from(["open", "bind", "keep", "publish", "end", "retry", "report"]))
    def write_late(self, which: int, what: str) -> None:
        """A process of an attempt that is over, or was superseded, still writes to the record."""
        run = (self.job_id, *self.outdated[which % len(self.outdated)])
        jobs, client = self.stores[1], self.jobs.connection.client
        before = client.hgetall(f"kangklip:job:{self.job_id}")
        late = Report(job_id=run[0], revision=run[1], attempt=run[2], progress=50)
        writes = {
            "bind": lambda: jobs.recuts.set_run(*run, str(uuid.uuid4())),
            "keep": lambda: jobs.recuts.keep(*run),
            "publish": lambda: jobs.recuts.publish(*run),
            "end": lambda: jobs.recuts.end(*run, JobState.SUCCEEDED),
            "retry": lambda: jobs.recuts.retry(*run, "It died."),
            "report": lambda: jobs.report(late),
        }
        if what == "open":
            with pytest.raises(JobConflict):
                jobs.recuts.open(*run, str(uuid.uuid4()), jobs.leases)
        else:
            assert not writes[what]()
        assert client.hgetall(f"kangklip:job:{self.job_id}") == before

    @rule(really=RARELY)
    def delete(self, really: bool) -> None:
        """Somebody deletes the job; nothing brings it back, and another one takes its place."""
        if not really:
            return
        runs = [*self.outdated, *([self.recut] if self.recut else [])]
        assert self.jobs.begin_deletion(self.job_id)
        delete_objects(self.job_id, self.bucket)
        self.jobs.end_deletion(self.job_id)
        for run in runs:
            assert not self.jobs.recuts.publish(self.job_id, *run)
        with pytest.raises(JobConflict):
            self.jobs.recuts.begin(self.job_id, 1)
        assert not list(self.bucket.list(job_key(self.job_id, "")))
        self.a_finished_job()

    @invariant()
    def readers_see_whole_revisions(self) -> None:
        """The published revision never goes back. Each revision that can be read is whole."""
        job = self.jobs.get(self.job_id)
        assert job
        published = job.revision or 1
        assert published >= self.seen
        assert published == 1 or published in self.given
        self.seen = published
        self._check_whole(revision_folder(published) if job.revision else "", published)
        for older in sorted(number for number in self.given | {1} if number < published)[-1:]:
            if self.bucket.exists(self._key(f"{revision_folder(older)}manifest.json")):
                self._check_whole(revision_folder(older), older)
        if job.revision and self.bucket.exists(self._key("manifest.json")):
            own = self.bucket.get_json(self._key("manifest.json")).get("revision", 1)
            assert own <= published
            self._check_whole("", own)
        if job.recut and job.recut.state is JobState.SUCCEEDED:
            assert self.bucket.get_json(self._key("manifest.json"))["revision"] == published

    def _check_whole(self, folder: str, revision: int) -> None:
        manifest = self.bucket.get_json(self._key(f"{folder}manifest.json"))
        assert manifest.get("revision", 1) == revision
        titles = self.titles[revision]
        assert [clip["title"] for clip in manifest["clips"]] == titles
        assert [clip["title"] for clip in self.bucket.get_json(self._key(f"{folder}edl.json"))["clips"]] == titles
        document = self.bucket.get_json(self._key(f"{folder}edit.json"))
        assert (document["revision"], [clip["title"] for clip in document["clips"]]) == (revision, titles)
        names = {key.removeprefix(self._key(folder)) for key in self.bucket.list(self._key(folder))}
        for clip in manifest["clips"]:
            stored = self.bucket.stat(self._key(folder + clip["file"]))
            assert stored
            assert stored.sha256 == clip["sha256"]
            assert names >= {clip["poster"], *clip["subtitles"].values()}

    def _has_kept(self) -> bool:
        job = self.jobs.get(self.job_id)
        return job is not None and job.revision is not None

    def _key(self, name: str) -> str:
        return job_key(self.job_id, name)

    def _mortal(self, dies: int) -> MortalBucket:
        mortal = MortalBucket(self.bucket._client, self.bucket.bucket)
        mortal.left, mortal.watch = dies, self.readers_see_whole_revisions if self.is_watched else lambda: None
        return mortal


@pytest.fixture
def settings_of_machine(servers, tmp_path):
    configured = servers.settings.model_copy(update={"data_dir": tmp_path})
    return {"configured": configured, "stores": [JobStore.from_settings(configured) for _ in range(3)]}


def run_machine(machine: type[Revisions], examples: int, steps: int, *phases: Phase) -> None:
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )
    run_state_machine_as_test(machine, settings=options)


def test_revisions_are_never_lost_mixed_or_made_twice(settings_of_machine):
    bucket = staticmethod(lambda: ArtifactStore(DictionaryClient(), "clips"))
    machine = type("Revisions", (Revisions,), settings_of_machine | {"new_bucket": bucket, "is_watched": True})
    run_machine(seed(7)(machine), 60, 15, Phase.generate)  # shrinking takes minutes


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_revisions_are_never_lost_mixed_or_made_twice_for_long(settings_of_machine, store):
    print(f"REVISION_SEED={SEED}")
    machine = type(
        "Revisions",
        (Revisions,),
        settings_of_machine | {"new_bucket": staticmethod(lambda: store), "is_watched": False},
    )
    run_machine(seed(SEED)(machine), EXAMPLES, 15, Phase.generate, Phase.shrink)
