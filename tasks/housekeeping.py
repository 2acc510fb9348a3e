"""Deletes what is older than RETENTION_DAYS: jobs that have ended, unused cache entries, rented machines' output."""

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pydantic import BaseModel

from infra.bucket.store import ArtifactStore, Deleted, StoredObject
from infra.errors import JobConflict
from infra.granted.access import granted_root
from infra.jobs.ids import JOB_ID
from infra.jobs.store import JobStore
from tasks.core.object_keys import USES, cache_entry, job_key, job_uses, use_key
from tasks.core.plurals import megabytes, pluralize
from tasks.deletion import delete_job, delete_objects
from tasks.shared_cache import delete_unused

logger = logging.getLogger(__name__)
JOBS, MACHINES, CACHE = "jobs/", "granted/", "cache/"
DAY_SECONDS = 86400
MACHINE_DAYS = 7
"""Longest time to keep what a rented machine wrote for a job that has ended: a later attempt would continue from it."""


class Freed(BaseModel):
    """How many things of a kind were deleted, their objects, and the size of these in bytes."""

    count: int = 0
    objects: int = 0
    size: int = 0

    def add(self, deleted: Deleted) -> None:
        self.count += 1
        self.objects += deleted.objects
        self.size += deleted.size


class HousekeepingReport(BaseModel):
    """What was deleted or, in a dry run, would be. `jobs` includes the cache entries that only those jobs used."""

    retention_days: int
    dry_run: bool
    unfinished: Freed = Freed()
    jobs: Freed = Freed()
    cache: Freed = Freed()
    machines: Freed = Freed()


@dataclass
class _Group:
    """The objects of a job or of a cache entry. `used_at` is when the newest was written, in epoch seconds."""

    objects: int = 0
    size: int = 0
    used_at: float = 0.0
    users: set[str] = field(default_factory=set[str])

    @property
    def total(self) -> Deleted:
        return Deleted(self.objects, self.size)


@dataclass
class _Cleaning:
    """One run of housekeeping, `now` in seconds since the epoch."""

    jobs: JobStore
    bucket: ArtifactStore
    days: int
    now: float
    dry_run: bool

    def finish_deletions(self) -> Freed:
        """Finish the deletions that failed midway."""
        freed = Freed()
        for job_id in sorted(self.jobs.unfinished_deletions()):
            left = _grouped(self.bucket.objects(job_key(job_id, "")), _job_of).get(job_id, _Group())
            self._count(f"the rest of job {job_id}", left.total if self.dry_run else self._delete_job(job_id), freed)
        return freed

    def delete_jobs(self, due: dict[str, _Group], cache: dict[str, _Group]) -> Freed:
        """Delete the jobs; the cache entries that only they used are removed from `cache`."""
        freed = Freed()
        for job_id in sorted(due):
            entries = _without_user(job_id, cache)
            planned = sum((cache.pop(entry).total for entry in entries), due[job_id].total)
            self._count(f"job {job_id}", planned if self.dry_run else self._delete_job(job_id), freed)
        return freed

    def delete_entries(self, cache: dict[str, _Group], kept: set[str]) -> Freed:
        """Delete the entries that no job has used since the limit, but for those of jobs that are kept."""
        freed = Freed()
        for entry, group in sorted(cache.items()):
            if group.used_at >= self._limit(self.days) or group.users & kept:
                continue
            deleted = group.total
            if not self.dry_run:
                for job_id in group.users:
                    self.bucket.delete(use_key(entry, job_id))
                deleted = delete_unused(entry, self.bucket)
            self._count(entry, deleted, freed)
        return freed

    def delete_machines_output(self, due: Iterable[str]) -> Freed:
        """Delete what rented machines wrote for jobs that have ended, but for those that are deleted anyway."""
        freed = Freed()
        for job_id, group in sorted(_grouped(self.bucket.objects(MACHINES), _job_of).items()):
            is_recent = group.used_at >= self._limit(min(self.days, MACHINE_DAYS))
            if is_recent or job_id in due or self._is_unfinished(job_id):
                continue
            deleted = group.total if self.dry_run else self.bucket.delete_all(granted_root(job_id))
            self._count(granted_root(job_id), deleted, freed)
        return freed

    def jobs_by_age(self) -> tuple[dict[str, _Group], set[str]]:
        """The jobs to delete and the others. Without a record, a job is as old as its newest object."""
        found = _grouped(self.bucket.objects(JOBS), _job_of)
        for name, group in _grouped(self.bucket.objects(MACHINES), _job_of).items():
            found[name] = _joined(found[name], group) if name in found else group
        known = {job.job_id: job for job in self.jobs.recent(sys.maxsize)}
        due, kept = dict[str, _Group](), set[str]()
        for job_id in {name for name in (*found, *known) if JOB_ID.fullmatch(name)}:
            job, group = known.get(job_id) or self.jobs.get(job_id), found.get(job_id, _Group())
            ended_at = group.used_at if job is None else job.updated_at
            if (job is None or job.has_ended) and ended_at < self._limit(self.days):
                due[job_id] = group
            else:
                kept.add(job_id)
        return due, kept

    def _delete_job(self, job_id: str) -> Deleted | None:
        """Delete a job; None if it was started again in the meantime."""
        try:
            deleted = delete_job(job_id, self.jobs, self.bucket)
        except JobConflict as conflict:
            logger.info("%s", conflict)
            return None
        return delete_objects(job_id, self.bucket) if deleted is None else deleted

    def _limit(self, days: int) -> float:
        return self.now - days * DAY_SECONDS

    def _is_unfinished(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        return job is not None and not job.has_ended

    def _count(self, what: str, deleted: Deleted | None, freed: Freed) -> None:
        if deleted is None:
            return
        freed.add(deleted)
        done = "Would delete" if self.dry_run else "Deleted"
        logger.info("%s %s: %s, %s", done, what, pluralize(deleted.objects, "object"), megabytes(deleted.size))


def clean(jobs: JobStore, bucket: ArtifactStore, days: int, now: float, *, dry_run: bool = False) -> HousekeepingReport:
    """Finish the deletions that failed midway and, unless `days` is 0, delete what was last used longer ago.

    Raises:
        StateError, StoreError: Redis or the bucket does not answer; the next run continues.
    """
    cleaning = _Cleaning(jobs, bucket, days, now, dry_run)
    report = HousekeepingReport(retention_days=days, dry_run=dry_run, unfinished=cleaning.finish_deletions())
    if not days:
        return report
    (due, kept), cache = cleaning.jobs_by_age(), _cache_entries(bucket)
    report.jobs = cleaning.delete_jobs(due, cache)
    report.cache = cleaning.delete_entries(cache, kept)
    report.machines = cleaning.delete_machines_output(due)
    return report


def markdown(report: HousekeepingReport) -> str:
    """The report as Markdown."""
    verb = "would be deleted" if report.dry_run else "deleted"
    rows = {
        "jobs, with what only they used": report.jobs,
        "other sources and transcripts that no job has used since": report.cache,
        "output of rented machines": report.machines,
        "deletions that had failed midway": report.unfinished,
    }
    kept = (
        f"Kept for {pluralize(report.retention_days, 'day')}" if report.retention_days else "RETENTION_DAYS is not set"
    )
    note = " Dry run: nothing was deleted." if report.dry_run else ""
    lines = ["## Housekeeping", "", f"{kept}.{note}", "", f"| {verb} | count | objects | size |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {one.count} | {one.objects} | {megabytes(one.size)} |" for name, one in rows.items()]
    return "\n".join(lines) + "\n"


def _grouped(objects: Iterable[StoredObject], name_of: Callable[[str], str]) -> dict[str, _Group]:
    """The objects by name, without the lists of what a job uses of the cache."""
    groups = defaultdict[str, _Group](_Group)
    for each in objects:
        group = groups[name_of(each.key)]
        group.used_at = max(group.used_at, each.modified)
        if not each.key.startswith(job_uses(_job_of(each.key))):
            group.objects, group.size = group.objects + 1, group.size + each.size
    return groups


def _cache_entries(bucket: ArtifactStore) -> dict[str, _Group]:
    """The entries of the shared cache. An entry was last used when its newest object or mark was written."""
    objects = [*bucket.objects(CACHE)]
    entries = dict(_grouped((each for each in objects if not each.key.startswith(USES)), cache_entry))
    for mark in (each for each in objects if each.key.startswith(USES)):
        entry, _, job_id = mark.key.removeprefix(USES).rpartition("/")
        group = entries.setdefault(CACHE + entry, _Group())
        group.users.add(job_id)
        group.used_at = max(group.used_at, mark.modified)
    return entries


def _without_user(job_id: str, cache: dict[str, _Group]) -> list[str]:
    """Take the job from the users of all entries; the entries that nobody uses any more."""
    used = [entry for entry, group in cache.items() if job_id in group.users]
    for entry in used:
        cache[entry].users.remove(job_id)
    return [entry for entry in used if not cache[entry].users]


def _joined(one: _Group, other: _Group) -> _Group:
    return _Group(one.objects + other.objects, one.size + other.size, max(one.used_at, other.used_at))


def _job_of(key: str) -> str:
    """The job in the key of an object below `jobs/` or `granted/`."""
    return key.split("/")[1]
