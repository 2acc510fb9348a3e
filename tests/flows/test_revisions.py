"""A state machine of everything that touches a job's revisions checks that none is lost, mixed or made twice.

Valkey, the bucket and the code that publishes are real; only drawing is left out, because no clip is changed in its
picture. A process may die before any of its writes, so each state that a reader can see at any moment is reached.

`REVISION_EXAMPLES` and `REVISION_SEED` set the number of sequences of the long test and its seed.
"""

import os
import random
import uuid
from typing import Any

import pytest
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

from infra.bucket.store import ArtifactStore
from infra.errors import JobConflict, NewerRevision
from infra.jobs.ids import new_job_id
from infra.jobs.keys import lease_key
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage
from tasks.core.errors import RecutRefused
from tasks.core.object_keys import job_key, revision_folder
from tasks.deletion import delete_objects
from tasks.recut import discard_unpublished, keep_first, plan_recut, update_job_folder, write_revision
from tasks.revisions import read_revision
from tasks.stages.publish import Published
from tasks.stages.render import RenderResult
from tasks.workspace import Workspace
from tests.editable_job import store_published

EXAMPLES = int(os.environ.get("REVISION_EXAMPLES", "300"))
SEED = int(os.environ.get("REVISION_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
ANY = st.integers(0, 999)


class Died(BaseException):
    """The process that did the work has died."""


class MortalBucket(ArtifactStore):
    """A bucket whose user dies before its n-th write; 0 means never."""

    left = 0

    def _live(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Died

    def put_bytes(self, *args: Any) -> Any:
        self._live()
        return super().put_bytes(*args)

    def copy(self, *args: Any) -> Any:
        self._live()
        return super().copy(*args)

    def delete(self, key: str) -> None:
        self._live()
        super().delete(key)


class Revisions(RuleBasedStateMachine):
    configured: Any = None
    bucket: ArtifactStore
    stores: list[JobStore]

    @initialize()
    def a_finished_job(self) -> None:
        self.job_id, self.jobs = new_job_id(), self.stores[0]
        self.given, self.seen, self.titles = set[int](), 1, {1: ["t", "t"]}
        self.outdated = list[tuple[int, int]]()
        assert self.jobs.create(self.job_id, "{}")
        store_published(self.job_id, self.bucket)
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
        lost=st.sampled_from([False] * 5 + [True]),
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
    @rule(store=ANY, dies=st.one_of(st.just(0), st.integers(1, 45), st.integers(14, 32)))
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
        run = (self.job_id, job.revision or 0, job.attempt)
        if record.revision != job.revision:
            planned = plan_recut(job, record.revision, mortal)
            if record.revision is None:
                keep_first(planned, job, mortal)
                mortal._live()
                assert jobs.recuts.keep(*run)
            discard_unpublished(job, record.revision or 1, mortal)
            work = Workspace(job, self.configured, lambda *_: None)
            work.store = mortal
            write_revision(planned, Published(clips=[]), {}, RenderResult(clips=[], face_log={"clips": []}), work)
            mortal._live()
            assert jobs.recuts.publish(*run)
        update_job_folder(job, mortal)
        mortal._live()
        assert jobs.recuts.end(*run, JobState.SUCCEEDED)

    @precondition(lambda self: self.recut)
    @rule()
    def reconcile(self) -> None:
        """The reconciler retries an attempt whose process is gone."""
        assert self.recut
        self.outdated.append(self.recut)
        assert self.jobs.recuts.retry(self.job_id, *self.recut, "It died.")

    @precondition(lambda self: self.recut)
    @rule(chance=st.integers(0, 3))
    def fail(self, chance: int) -> None:
        if chance or not self.recut:
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

    @rule(chance=st.integers(0, 5))
    def delete(self, chance: int) -> None:
        """Somebody deletes the job; nothing brings it back, and another one takes its place."""
        if chance:
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
    def the_revision_only_grows(self) -> None:
        assert self.published >= self.seen
        assert self.published == 1 or self.published in self.given
        self.seen = self.published

    @invariant()
    def readers_see_one_whole_revision(self) -> None:
        job = self.jobs.get(self.job_id)
        assert job
        self._check_whole(revision_folder(job.revision) if job.revision else "", self.published)
        for older in sorted(number for number in self.given | {1} if number < self.published)[-1:]:
            if self.bucket.exists(self._key(f"{revision_folder(older)}manifest.json")):
                self._check_whole(revision_folder(older), older)

    @invariant()
    def the_jobs_own_folder_is_whole_if_it_has_a_manifest(self) -> None:
        if self.bucket.exists(self._key("manifest.json")):
            revision = self.bucket.get_json(self._key("manifest.json")).get("revision", 1)
            assert revision <= self.published
            self._check_whole("", revision)

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
        mortal = MortalBucket.from_settings(self.configured)
        mortal.left = dies
        return mortal


@pytest.fixture
def machine(servers, store, tmp_path):
    configured = servers.settings.model_copy(update={"data_dir": tmp_path})
    stores = [JobStore.from_settings(configured) for _ in range(3)]
    return type("Revisions", (Revisions,), {"configured": configured, "bucket": store, "stores": stores})


def run_machine(machine: type[Revisions], examples: int, steps: int) -> None:
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(machine, settings=options)


def test_revisions_are_never_lost_mixed_or_made_twice(machine):
    run_machine(seed(7)(machine), 4, 15)


@pytest.mark.soak
def test_revisions_are_never_lost_mixed_or_made_twice_for_long(machine):
    print(f"REVISION_SEED={SEED}")
    run_machine(seed(SEED)(machine), EXAMPLES, 40)
