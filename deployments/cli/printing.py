"""Prints a command's result as a table or as one JSON document."""

import json
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from deployments.console import out
from infra.errors import ConfigError, InfraError
from tasks.core.errors import BadRequest, ClipError
from tasks.core.plurals import age, megabytes, pluralize
from tasks.core.source.addresses import loggable

if TYPE_CHECKING:
    from infra.jobs.record import Job


@dataclass(frozen=True)
class FinishedJob:
    """A succeeded job and the folder that holds its files."""

    job_id: str
    folder: Path
    files: list[Path]

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))

    def document(self) -> dict[str, Any]:
        """The document that `--json` prints; see docs/command-line.md, "JSON for programs"."""
        manifest = self.manifest
        return {
            "job_id": self.job_id,
            "status": "SUCCEEDED",
            "folder": str(self.folder),
            "clips": [
                {
                    "file": str(self.folder / clip["file"]),
                    "title": clip["title"],
                    "hook": clip["hook"],
                    "start": clip["start"],
                    "end": clip["end"],
                    "seconds": clip["duration"],
                    "size_bytes": clip["size_bytes"],
                    "checks_passed": sum(check["ok"] for check in clip["checks"]),
                    "checks": len(clip["checks"]),
                }
                for clip in manifest["clips"]
            ],
            "warnings": manifest["warnings"],
            "dropped": manifest["dropped"],
            "error": None,
        }

    def show(self) -> None:
        """Print the clips as a table, and their folder."""
        table = _columns(("clip", "title"), ("seconds", "size", "checks"), ("file",))
        for number, clip in enumerate(self.document()["clips"], 1):
            table.add_row(
                str(number),
                Text(clip["title"]),
                f"{clip['seconds']:.1f}",
                megabytes(clip["size_bytes"]),
                f"{clip['checks_passed']}/{clip['checks']}",
                Path(clip["file"]).name,
            )
        out.print(table)
        out.print(Text(f"{pluralize(len(self.files), 'file')} in {self.folder}"), soft_wrap=True)


def job_document(job: "Job") -> dict[str, Any]:
    """A job in the format of `status --json` and `list --json`."""
    fields = job.model_dump(
        mode="json", include={"job_id", "status", "stage", "progress", "attempt", "error", "request"}
    )
    times = {name: _iso(getattr(job, name)) for name in ("created_at", "updated_at")}
    attempts = [
        {"number": attempt.number, "began_at": _iso(attempt.began_at), "ended_at": _iso(attempt.ended_at)}
        | {"reason": attempt.reason}
        for attempt in job.attempts
    ]
    return fields | times | {"attempts": attempts, "source": source(job), "cancelled": job.is_cancelled}


def displayed_state(job: "Job") -> str:
    """A job's state for display: CANCELLED instead of FAILED for a cancelled job."""
    return "CANCELLED" if job.is_cancelled else job.status


def source(job: "Job") -> str:
    """The job's video for display: its file name, or its address without secrets."""
    return job.request.get("source_name") or loggable(job.request.get("video_url") or "") or "?"


def jobs_table(jobs: "Iterable[Job]") -> Table:
    table = _columns(("job",), ("state", "progress", "age"), ("video",))
    for job in jobs:
        state = displayed_state(job)
        styled = Text(state, style={"SUCCEEDED": "green", "FAILED": "red"}.get(state, ""))
        table.add_row(job.job_id, styled, f"{job.progress:.0f}%", age(time.time() - job.created_at), Text(source(job)))
    return table


def print_document(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))  # noqa: T201 standard output is for programs


@contextmanager
def failure_printed(*, as_json: bool, job_id: str | None = None, runs_job: bool = False) -> Generator[None]:
    """Re-raise a failure; with `as_json`, print it as a document first.

    The document's `status` is FAILED if this command was running the job, otherwise null.
    """
    try:
        yield
    except (ClipError, InfraError, KeyboardInterrupt) as error:
        if as_json:
            job_failed = runs_job and not isinstance(error, BadRequest | ConfigError)
            print_document({"job_id": job_id, "status": "FAILED" if job_failed else None, "error": _fault(error)})
        raise


def _fault(error: BaseException) -> dict[str, str]:
    """Message, stable code and next step. Codes are those of `error.json`, `stopped`, `setting` or `infrastructure`."""
    if isinstance(error, ClipError):
        return {"message": error.message, "code": error.code, "next_step": error.next_step}
    if isinstance(error, KeyboardInterrupt):
        return {"message": "Stopped.", "code": "stopped", "next_step": "Continue with kangklip resume."}
    code = "setting" if isinstance(error, ConfigError) else "infrastructure"
    return {"message": str(error), "code": code, "next_step": ""}


def _columns(*groups: tuple[str, ...]) -> Table:
    """A table with the second group of columns right-aligned."""
    table = Table()
    for index, group in enumerate(groups):
        for name in group:
            is_text = name in ("title", "video")
            table.add_column(
                name,
                justify="right" if index == 1 else "left",
                no_wrap=not is_text,
                overflow="fold" if is_text else "ellipsis",
            )
    return table


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
