"""A state machine of everything that touches a job's record checks that attempts never mix, in any order of events.

The record store is a real Valkey (in a separate database), the Prefect API a strict fake. Each rule is an action of
the API, a run, a rented machine, the Nosana worker, the reconciler or time; some happen during others.

`MODEL_STEPS` and `MODEL_SEED` set the number of steps of the long test and its seed.
"""

import contextlib
import json
import logging
import os
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis
from fastapi import HTTPException
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pydantic import SecretStr

from deployments.api.app import create_app
from deployments.api.guards import Caller
from deployments.api.job_request import JobRequest
from deployments.api.rented_machine import redeem as api_redeem
from deployments.api.routes import create as api_create
from deployments.api.routes import jobs as api_jobs
from deployments.job_reconciler import Reconciler
from infra.bucket.store import ArtifactStore
from infra.errors import JobConflict
from infra.granted import grant as grants
from infra.granted.grant import Grant
from infra.granted.session import STOLEN
from infra.jobs.ids import job_id_of_run, new_job_id
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.nosana.assignment import Assignment, open_assignment
from infra.prefect.runs import PrefectRuns
from infra.states import JobState, Stage
from tests.deployments.prefect_fake import TERMINAL, PrefectFake

REQUEST = {"video_url": "https://example.org/talk.mp4", "clip_duration_seconds": 45, "clip_count": 1, "language": "en"}
CALLER = Caller(client="1.2.3.4", address="1.2.3.4")
MOST_JOBS, PROCESSES, STEPS = 3, 6, 50
MODEL_STEPS = int(os.environ.get("MODEL_STEPS", "1000000"))
MODEL_SEED = int(os.environ.get("MODEL_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
ANY = st.integers(0, 999)
EVENTS = st.sampled_from(
    ["nothing", "nothing", "cancel", "begin", "begin and finish", "expire", "die", "lose", "refuse"]
)
LATE_WRITES = {
    "a report": lambda jobs, job, attempt: jobs.report(report_of(job, attempt, stage=Stage.RENDER, progress=99)),
    "an end": lambda jobs, job, attempt: jobs.report(report_of(job, attempt, status=JobState.SUCCEEDED)),
    "a failure": lambda jobs, job, attempt: jobs.report(report_of(job, attempt, status=JobState.FAILED, error="x")),
    "a death": lambda jobs, job, attempt: jobs.retry(job, attempt, "It died."),
    "a cancel": lambda jobs, job, attempt: jobs.cancel(job, attempt),
    "a start": lambda jobs, job, attempt: jobs.reopen(job, after=attempt),
    "a failed start": lambda jobs, job, attempt: jobs.start_failed(job, attempt, "No."),
    "a run": lambda jobs, job, attempt: jobs.set_run(job, attempt, str(uuid.uuid4())),
    "a run that begins": lambda jobs, job, attempt: jobs.open(job, str(uuid.uuid4()), attempt, "{}", lease=False),
    "a deployment": lambda jobs, job, attempt: jobs.set_deployment(JobRef(job_id=job, attempt=attempt), "another"),
    "a grant": lambda jobs, job, attempt: jobs.set_grant(JobRef(job_id=job, attempt=attempt), "another"),
    "a cost": lambda jobs, job, attempt: jobs.add_cost(job, f"deployment of {attempt}", 0.5),
    "a discard": lambda jobs, job, _: jobs.discard(job),
}
"""Every write to a record, as a writer with an outdated view makes it."""
NONCES = st.sampled_from([None, "a machine's", "a machine's", "a thief's"])
taken_steps = Counter[str]()


class Died(BaseException):
    """The process that did the work has died."""


@dataclass
class Process:
    """A run's process; its store has its own lease holder."""

    run_id: str
    job_id: str
    attempt: int
    store: JobStore


@dataclass
class LastSeen:
    """A job's record when last checked, and what must stay true of it."""

    fields: dict[str, str] = field(default_factory=dict[str, str])
    is_gone: bool = False
    opened: dict[int, str] = field(default_factory=dict[int, str])
    cancelled: set[int] = field(default_factory=set[int])
    alarms: set[int] = field(default_factory=set[int])

    @property
    def attempt(self) -> int:
        return int(self.fields.get("attempt", 0))


class Interleavings(RuleBasedStateMachine):
    configured: Any = None
    database: redis.Redis
    stores: list[JobStore]

    @initialize(attempts=st.integers(1, 3))
    def a_store_with_a_job(self, attempts) -> None:
        self.database.flushdb()
        self.prefect = PrefectFake()
        runs = PrefectRuns("http://prefect/api", "clip/local", self.prefect.transport)
        self.jobs = self.stores[0]
        bucket = ArtifactStore.from_settings(self.configured)
        self.services = create_app(self.configured, self.jobs, bucket, runs).state.services
        self.now = time.time()  # records are stamped with real time
        self.reconciler = Reconciler(self.jobs, runs, clock=self.clock)
        self.last_seen: dict[str, LastSeen] = {}
        self.deleted: set[str] = set()
        self.retried: set[str] = set()
        self.processes: list[Process] = []
        self.free = list(self.stores[1:])
        self.assignments: list[Assignment] = []
        self.grants: list[Grant] = []
        self.nonces: dict[str, str | None] = {}  # each exchanged grant's nonce, or None once void
        self.sessions: list[tuple[str, Grant]] = []
        self.steps = -1  # the invariant is checked once before the first step
        self.create_job(event="nothing")
        for _ in range(1, attempts):
            (job_id,) = self.last_seen
            self.cancel(job_id)
            self.submit_during("nothing", lambda job_id=job_id: api_jobs._start(job_id, CALLER, self.services))

    def clock(self) -> float:
        return self.now

    # The API.

    @rule(event=EVENTS)
    def a_client_creates_a_job(self, event):
        if self.has_room():
            self.create_job(event)

    def create_job(self, event):
        self.submit_during(
            event, lambda: api_create._create(request(), CALLER, JobRequest.model_validate(REQUEST), "", self.services)
        )

    @rule(which=ANY, event=EVENTS)
    def a_client_restarts_a_job(self, which, event):
        if job_id := self.pick(self.jobs_in("FAILED"), which):
            self.submit_during(event, lambda: api_jobs._start(job_id, CALLER, self.services))

    @rule(which=ANY)
    def a_client_cancels_a_job(self, which):
        if job_id := self.pick(self.jobs_in("QUEUED", "RUNNING"), which):
            self.cancel(job_id)

    def cancel(self, job_id):
        if answer_of(lambda: api_jobs._cancel(job_id, CALLER, self.services)) != (200, None):
            assert self.record(job_id).get("status") not in ("QUEUED", "RUNNING"), "it goes on and was not cancelled"
            return
        job = self.jobs.get(job_id)
        assert (job.status, job.is_cancelled) == (JobState.FAILED, True)
        self.last_seen[job_id].cancelled.add(job.attempt)

    def submit_during(self, event, work):
        """Submit a run while `event` happens: the server may answer, lose the response, or the caller may die."""

        def meanwhile(run):
            job_id = run["parameters"]["job_id"]
            self.last_seen.setdefault(job_id, LastSeen())
            if event == "cancel":
                self.cancel(job_id)
            elif event == "expire":
                self.expire(job_id)
            elif event.startswith("begin"):
                process = self.begin(run)
                if process and event == "begin and finish":
                    self.end(process, JobState.SUCCEEDED)
            elif event == "die":
                raise Died
            elif event == "lose":
                raise httpx.ReadTimeout("lost")

        self.prefect.while_created, self.prefect.refuses = meanwhile, event == "refuse"
        with contextlib.suppress(Died):
            answer_of(work)
        self.prefect.while_created, self.prefect.refuses = None, False

    # Runs and Prefect.

    @rule()
    def a_run_is_started_in_the_prefect_ui(self):
        if not any(self.is_from_the_ui(job_id) for job_id in self.last_seen):
            run = self.prefect.make({"request": REQUEST})
            self.last_seen.setdefault(job_id_of_run(run["id"]), LastSeen())

    @rule(which=ANY)
    def a_run_is_retried_in_the_prefect_ui(self, which):
        ended = [run for run in self.prefect.runs.values() if run["state_type"] in TERMINAL]
        if run := self.pick(ended, which):
            self.prefect.set_state(run["id"], "SCHEDULED", force=True)
            self.retried.add(run["id"])

    @rule(which=ANY)
    def a_run_begins(self, which):
        waiting = [run for run in self.prefect.runs.values() if run["state_type"] in ("SCHEDULED", "PENDING")]
        if run := self.pick(waiting, which):
            self.begin(run)

    @rule(which=ANY)
    def a_process_is_killed_before_it_opens_its_job(self, which):
        """Its run says RUNNING from then on, and nobody runs it."""
        waiting = [run for run in self.prefect.runs.values() if run["state_type"] in ("SCHEDULED", "PENDING")]
        if run := self.pick(waiting, which):
            self.prefect.begin(run["id"])

    def begin(self, run):
        """Start a process that runs the flow: it reports to the server, then opens its attempt."""
        if not self.free or not self.prefect.begin(run["id"]):
            return None
        job_id, carried = self.job_and_attempt_of(run)
        store = self.free[-1]
        try:
            attempt = store.open(
                job_id, run["id"], carried, json.dumps(REQUEST), lease=True, is_retry=run["run_count"] > 1
            )
        except JobConflict as refused:
            self.prefect.set_state(run["id"], "FAILED", str(refused))
            return None
        self.check_opened(job_id, attempt, run["id"])
        self.processes.append(Process(run["id"], job_id, attempt, self.free.pop()))
        return self.processes[-1]

    @rule(which=ANY, stage=st.sampled_from(list(Stage)[:6]))
    def a_run_reports_progress(self, which, stage):
        if process := self.pick(self.processes, which):
            report = Report(job_id=process.job_id, attempt=process.attempt, stage=stage, progress=stage.span[0])
            self.write_to_attempt(process.job_id, process.attempt, lambda: process.store.report(report))

    @rule(which=ANY, status=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED]))
    def a_run_ends(self, which, status):
        if process := self.pick(self.processes, which):
            self.end(process, status)

    def end(self, process, status):
        error = "It broke." if status is JobState.FAILED else None
        report = Report(job_id=process.job_id, attempt=process.attempt, status=status, error=error)
        self.write_to_attempt(process.job_id, process.attempt, lambda: process.store.report(report))
        self.prefect.set_state(process.run_id, "COMPLETED" if status is JobState.SUCCEEDED else "FAILED")
        self.remove_process(process, lease_stays=False)

    @rule(which=ANY, is_noticed=st.booleans(), lease_stays=st.booleans())
    def a_process_is_killed(self, which, is_noticed, lease_stays):
        if process := self.pick(self.processes, which):
            if is_noticed:
                self.prefect.set_state(process.run_id, "CRASHED", "Its process was killed.")
            self.remove_process(process, lease_stays=lease_stays)

    @rule(which=ANY)
    def a_lease_expires_or_is_taken_again(self, which):
        """The machine slept too long, and the process without a lease tries to continue."""
        if process := self.pick(self.processes, which):
            process.store.leases.release(process.job_id)
            self.write_to_attempt(process.job_id, -1, lambda: process.store.leases.hold(process.job_id))

    def remove_process(self, process, *, lease_stays):
        self.processes.remove(process)
        if not lease_stays:
            process.store.leases.release(process.job_id)
        self.free.insert(0, process.store)

    @rule(which=ANY, back=st.integers(1, 3), what=st.sampled_from(list(LATE_WRITES)))
    def a_late_write_arrives(self, which, back, what):
        """For an earlier attempt or an expired job; a callback may name no attempt."""
        job_id = self.pick(self.last_seen, which)
        current = self.record(job_id).get("attempt")
        attempt = int(current) - back if current else back
        if attempt > 0:
            named = None if what == "a report" and not current else attempt
            with contextlib.suppress(JobConflict):
                self.write_to_attempt(job_id, named, lambda: LATE_WRITES[what](self.jobs, job_id, named))

    @rule(which=ANY)
    def a_cancel_arrives_after_the_end(self, which):
        job_id = self.pick(self.jobs_in("FAILED"), which)
        attempt = int(self.record(job_id).get("attempt", 0))
        if attempt and self.jobs.cancel(job_id, attempt):
            self.last_seen[job_id].cancelled.add(attempt)

    # Rented machines and the Nosana worker.

    @rule(which=ANY)
    def a_machine_is_rented(self, which):
        """The Nosana worker takes a run and gives the machine a grant; again after a host has failed."""
        waiting = [run for run in self.prefect.runs.values() if run["state_type"] in ("SCHEDULED", "PENDING")]
        run = self.pick(waiting, which)
        if run is None:
            return
        self.prefect.set_state(run["id"], "PENDING")
        try:
            is_retry = run["id"] in self.retried
            assignment = open_assignment(uuid.UUID(run["id"]), run["parameters"], self.jobs, is_retry=is_retry)
        except JobConflict as refused:
            self.prefect.set_state(run["id"], "CRASHED", str(refused))
            return
        self.check_opened(assignment.job.job_id, assignment.job.attempt, run["id"])
        self.assignments.append(assignment)
        named = {"job_id": assignment.job.job_id, "run_id": run["id"], "attempt": assignment.job.attempt}
        grant = Grant(**named, session_seconds=600, expires_at=grants.expiry_after(600))
        if self.jobs.set_grant(assignment.job, grant.grant_id):
            self.grants.append(grant)
            assignment.record_deployment(f"deployment-{len(self.grants)}")
            for _ in range(which % 3):  # twice if the response is lost
                self.exchange_grant(grant, "a machine's")

    @rule(which=ANY, nonce=NONCES)
    def a_grant_is_exchanged(self, which, nonce):
        newest = [one for one in self.grants if self.record(one.job_id).get("grant_id") == one.grant_id]
        grant = self.pick(newest or self.grants, which)
        if grant:
            self.exchange_grant(grant, nonce)

    def exchange_grant(self, grant, nonce):
        fields = self.record(grant.job_id)
        is_newest = (fields.get("attempt"), fields.get("grant_id")) == (str(grant.attempt), grant.grant_id)
        got: list[api_redeem.Redeemed] = []
        status, detail = answer_of(lambda: got.append(api_redeem._redeem(grant, nonce, "http://api", self.services)))
        is_again = nonce is not None and self.nonces.get(grant.grant_id) == nonce
        is_theft = is_newest and grant.grant_id in self.nonces and not is_again
        assert is_theft == ((status, detail) == api_redeem.ALREADY_REDEEMED)
        if is_theft:
            self.last_seen[grant.job_id].alarms.add(grant.attempt)
        if status == 200:
            assert is_newest
            taken_steps["answered again"] += is_again
            earlier = [one for one in self.sessions if one[1] is grant]
            assert not [token for token, _ in earlier if self.services.sessions.find(token)], "a grant has two sessions"
            self.nonces[grant.grant_id] = nonce
            self.sessions.append((got[0].access.token, grant))

    @rule(which=ANY)
    def nonces_expire(self, which):
        """Nonces expire after ten minutes."""
        found = sorted(self.database.keys("kangklip:session:*:nonce"))
        if found and which % 4 == 0:
            self.database.delete(*found)
            self.nonces = dict.fromkeys(self.nonces)

    def find_session(self, token, grant):
        """The session if it is valid; the newest session counts as used from now on."""
        if [one for one in self.sessions if one[1] is grant][-1][0] == token:
            self.nonces[grant.grant_id] = None
        return self.services.sessions.find(token)

    @rule(which=ANY, status=st.sampled_from(list(JobState)[1:]))
    def a_machine_reports(self, which, status):
        token, grant = self.pick(self.sessions, which) or ("", None)
        if grant and self.find_session(token, grant):
            error = "It broke there." if status is JobState.FAILED else None
            report = Report(job_id=grant.job_id, attempt=grant.attempt, status=status, error=error)
            self.write_to_attempt(grant.job_id, grant.attempt, lambda: self.jobs.report(report))

    @rule(which=ANY, what=st.sampled_from(["deployment", "cost", "start error", "failure", "loss", "cancel"]))
    def the_worker_reports_on_a_machine(self, which, what):
        """At any later time: the worker may have waited minutes for an archive."""
        assignment = self.pick(self.assignments[-4:], which)
        if assignment is None:
            return
        reports = {
            "deployment": lambda: assignment.record_deployment("another"),
            "cost": lambda: assignment.record_cost("a deployment", 0.5),
            "start error": lambda: assignment.record_start_failure("No host was found."),
            "failure": lambda: assignment.fail("The host failed."),
            "loss": lambda: assignment.mark_lost("The host was shut down."),
            "cancel": assignment.cancel,
        }
        run = self.prefect.runs[str(assignment.run_id)]
        if what == "cancel":
            self.prefect.set_state(run["id"], "CANCELLED")
        if what == "loss":
            self.prefect.set_state(run["id"], "CRASHED", "The host was shut down.")
        if what == "cancel" and run["state_type"] not in ("CANCELLED", "CANCELLING"):
            return
        self.write_to_attempt(assignment.job.job_id, assignment.job.attempt, reports[what])

    # Time and the reconciler.

    @rule(which=ANY)
    def a_record_expires(self, which):
        if which % 8 == 0 and (job_id := self.pick(self.last_seen, which // 8)):
            self.expire(job_id)

    @rule(which=ANY)
    def a_job_is_deleted(self, which):
        if which % 4 or (job_id := self.pick(self.last_seen, which // 4)) is None:
            return
        with contextlib.suppress(JobConflict):
            if self.jobs.begin_deletion(job_id):
                self.jobs.end_deletion(job_id)
                self.deleted.add(job_id)
                self.last_seen[job_id] = LastSeen(is_gone=True)

    def expire(self, job_id):
        self.database.delete(f"kangklip:job:{job_id}", f"kangklip:job:{job_id}:events")
        self.deleted.discard(job_id)  # its mark expires too
        self.last_seen[job_id] = LastSeen(is_gone=True)

    @rule(seconds=st.sampled_from([1.0, 30.0, 200.0]))
    def the_reconciler_runs(self, seconds):
        self.reconciler.step()
        self.now += seconds

    # What must hold.

    @invariant()
    def attempts_stay_apart(self):
        self.check_all()
        self.steps += 1
        if self.steps > 0:
            taken_steps["all"] += 1
            taken_steps["of a later attempt"] += any(known.attempt > 1 for known in self.last_seen.values())
            taken_steps["after a theft"] += any(known.alarms for known in self.last_seen.values())

    def check_all(self):
        kept = self.database.keys("kangklip:job:*")
        with self.database.pipeline() as pipe:  # one round trip: the long test takes a million steps
            for job_id in self.last_seen:
                pipe.hgetall(f"kangklip:job:{job_id}")
            for key in kept:
                pipe.ttl(key)
            pipe.smembers("kangklip:active")
            pipe.hgetall("kangklip:waiting")
            pipe.hgetall("kangklip:waiting:clients")
            *answers, active, waiting, waiting_of = pipe.execute()
        assert all(seconds > 0 for seconds in answers[len(self.last_seen) :]), "it would never expire"
        records = {job_id: unless_deleted(fields) for job_id, fields in zip(self.last_seen, answers, strict=False)}
        for job_id, fields in records.items():
            self.check_job(job_id, self.last_seen[job_id], fields)
        going_on = {job_id for job_id, fields in records.items() if fields.get("status") in ("QUEUED", "RUNNING")}
        assert going_on == {job_id for job_id in active if records.get(job_id, True)}
        queued = {job for job, fields in records.items() if fields.get("status") == "QUEUED" and "client" in fields}
        assert queued == {job_id for job_id in waiting if records.get(job_id, True)}, "the limits count something else"
        assert waiting_of == {client: str(count) for client, count in Counter(waiting.values()).items()}
        used = [(token, grant) for token, grant in self.sessions if self.nonces[grant.grant_id] is None]
        for token, grant in used[-3:]:
            if self.services.sessions.find(token):
                fields = self.record(grant.job_id)
                assert (fields["attempt"], fields["grant_id"]) == (str(grant.attempt), grant.grant_id)

    def check_job(self, job_id, known, fields):
        if not fields:
            if known.fields:
                self.last_seen[job_id] = LastSeen(is_gone=True)
            return
        assert job_id not in self.deleted, "a deleted job has come back"
        if known.is_gone:  # only a run from the Prefect UI creates its own job
            assert self.is_from_the_ui(job_id), "an expired record was revived"
            self.last_seen[job_id] = known = LastSeen(opened=known.opened)
        assert fields["job_id"] == job_id
        attempt, status = int(fields["attempt"]), fields["status"]
        assert attempt >= known.attempt
        run_id = fields.get("flow_run_id")
        if attempt > known.attempt > 0 and run_id:
            assert run_id != known.fields.get("flow_run_id") or run_id in self.retried, (
                "it kept an earlier attempt's run"
            )
        if attempt == known.attempt and known.fields.get("status") in ("SUCCEEDED", "FAILED"):
            assert status == known.fields["status"], "what has ended has ended"
        if attempt in known.cancelled:
            assert status == "FAILED", "what was cancelled does not run"
        if attempt in known.alarms:
            assert status == "SUCCEEDED" or fields["error"] == STOLEN, "an alarm stays"
        known.fields = fields

    def write_to_attempt(self, job_id, attempt, say):
        """Write to an attempt and check that no other attempt changes and no record is created."""
        before = self.record(job_id)
        say()
        after = self.record(job_id)
        assert bool(after) == bool(before), "something was made of nothing"
        if before.get("attempt") != str(attempt):
            assert without_costs(after) == without_costs(before), "another attempt was changed"

    def check_opened(self, job_id, attempt, run_id):
        fields = self.record(job_id)
        assert (fields["attempt"], fields["status"], fields["flow_run_id"]) == (str(attempt), "QUEUED", run_id)
        if self.last_seen[job_id].is_gone:
            self.check_job(job_id, self.last_seen[job_id], fields)
        known = self.last_seen[job_id]
        carried = self.prefect.runs[run_id]["parameters"].get("attempt")
        assert carried in (attempt, None) or run_id in self.retried, "a run has opened another's attempt"
        assert attempt not in known.cancelled, "a cancelled attempt was opened"
        assert known.opened.setdefault(attempt, run_id) == run_id, "two runs have opened one attempt"

    def teardown(self):
        """Kill every process, let the rest finish, and check that every job ends."""
        if not hasattr(self, "last_seen"):
            return
        for process in list(self.processes):
            self.prefect.set_state(process.run_id, "CRASHED", "Its process was killed.")
            self.remove_process(process, lease_stays=False)
        for lease in self.database.scan_iter("kangklip:job:*:lease"):
            self.database.delete(lease)
        for assignment in self.assignments:
            assignment.fail("The worker has gone.")
            self.prefect.set_state(str(assignment.run_id), "CRASHED", "The worker has gone.")
        for _ in range(30):
            for run in [run for run in self.prefect.runs.values() if run["state_type"] not in TERMINAL]:
                if (process := self.begin(run)) is not None:
                    self.end(process, JobState.SUCCEEDED)
                elif run["state_type"] != "RUNNING":  # the reconciler must find those whose process was killed
                    self.prefect.set_state(run["id"], "CRASHED", "Nobody runs it.")
            self.the_reconciler_runs(400.0)
            self.check_all()
            if not self.jobs.active():
                return
        raise AssertionError(f"nobody ends {self.jobs.active()}")

    def record(self, job_id) -> dict[str, str]:
        return unless_deleted(self.database.hgetall(f"kangklip:job:{job_id}"))

    def jobs_in(self, *states):
        """Jobs in one of the states, or all jobs if there are none."""
        return [job_id for job_id in self.last_seen if self.record(job_id).get("status") in states] or list(
            self.last_seen
        )

    def has_room(self):
        return sum(bool(self.record(job_id)) for job_id in self.last_seen) < MOST_JOBS

    def is_from_the_ui(self, job_id):
        return any(job_id_of_run(run_id) == job_id for run_id in self.prefect.runs)

    def job_and_attempt_of(self, run):
        return run["parameters"].get("job_id") or job_id_of_run(run["id"]), run["parameters"].get("attempt")

    def pick(self, things, which):
        found = list(things)
        return found[which % len(found)] if found else None


def report_of(job_id, attempt, **fields):
    return Report(job_id=job_id, attempt=attempt, **fields)


def answer_of(work):
    """Status and detail of a handler's response, which is never a server error."""
    try:
        work()
    except HTTPException as refused:
        assert refused.status_code in (403, 404, 409, 502)  # noqa: PT017 any of these
        return refused.status_code, refused.detail
    return 200, None


def request():
    return SimpleNamespace(state=SimpleNamespace())


def unless_deleted(fields):
    """A record's fields, or none: a deleted job leaves only a mark."""
    return {} if "deleted" in fields else fields


def without_costs(fields):
    return {name: value for name, value in fields.items() if not name.startswith("cost")}


@pytest.fixture
def machine(servers, monkeypatch):
    """The state machine on a separate database, with a submitter that does not sleep between tries."""
    monkeypatch.setattr("infra.prefect.server.BUSY_TRIES", 1)
    address = servers.settings.redis_url.get_secret_value().rsplit("/", 1)[0] + "/9"
    secrets = {"redis_url": SecretStr(address), "grant_secret": SecretStr("a secret of thirty-two letters at least")}
    Interleavings.configured = servers.settings.model_copy(
        update=secrets | {"create_rate_per_minute": 0, "max_queued": 0, "max_queued_per_key": 0}
    )
    Interleavings.database = redis.Redis.from_url(address, decode_responses=True)
    Interleavings.stores = [JobStore.from_settings(Interleavings.configured) for _ in range(PROCESSES + 1)]
    taken_steps.clear()
    yield Interleavings
    Interleavings.database.flushdb()


def run_model(machine, examples, **more):
    quiet = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "print_blob": True}
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=STEPS, **quiet, **more)
    )


@pytest.mark.parametrize("what", LATE_WRITES)
def test_a_late_write_changes_and_revives_nothing_and_is_logged(machine, what, caplog):
    """For the first attempt while the second runs, and for an expired record."""
    jobs, job_id = machine.stores[0], new_job_id()
    jobs.create(job_id, json.dumps(REQUEST))
    jobs.report(report_of(job_id, 1, status=JobState.FAILED, error="x"))
    assert jobs.reopen(job_id, after=1) == 2
    keys = [f"kangklip:job:{job_id}", f"kangklip:job:{job_id}:events"]
    before = machine.database.hgetall(keys[0])

    def refusals_of_write(attempt):
        caplog.clear()
        with caplog.at_level(logging.INFO, "infra.jobs.store"), contextlib.suppress(JobConflict):
            LATE_WRITES[what](jobs, job_id, attempt)
        return [line for line in caplog.messages if f"Job {job_id} refused " in line]

    assert len(refusals_of_write(1)) == (what != "a cost")  # what an earlier attempt has cost still counts
    assert without_costs(machine.database.hgetall(keys[0])) == without_costs(before)
    machine.database.delete(*keys)
    for attempt in (1, 2, None) if what == "a report" else (1, 2):
        assert len(refusals_of_write(attempt)) == 1
    assert machine.database.exists(*keys) == 0


def test_no_order_of_events_mixes_attempts(machine):
    phases = [Phase.generate]
    run_model(machine, 240, derandomize=True, phases=phases)
    assert taken_steps["all"] >= 10_000
    # How often the rare ones come up depends on which modules are loaded: Hypothesis draws from their constants too.
    assert taken_steps["of a later attempt"] >= 500
    assert taken_steps["after a theft"] >= 10
    assert taken_steps["answered again"] >= 1


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_no_order_of_a_million_events_mixes_attempts(machine, capsys):
    print(f"MODEL_SEED={MODEL_SEED} MODEL_STEPS={MODEL_STEPS}")
    rounds = 0
    while (left := MODEL_STEPS - taken_steps["all"]) > 0:
        run_model(seed(MODEL_SEED + rounds)(machine), min(1000, left // STEPS + 1))
        rounds += 1
    with capsys.disabled():
        print(f"MODEL_SEED={MODEL_SEED}, {taken_steps['all']} steps: {dict(taken_steps)}")
