"""Turns measurements into a summary, verdicts and a table. Pure functions.

Seconds are wall time unless called CPU; memory is in MB (10^6 bytes).
"""

from dataclasses import dataclass
from statistics import median
from typing import Any

from tasks.core.plurals import pluralize

EARLIER_WALL, EARLIER_CPU, EARLIER_MB = 214.0, 315.0, 877.0
"""The earlier service: a ten-minute 1080p talk, three clips of 45 s, Whisper base, x264 veryfast, on two cores."""
EARLIER_PLAIN_PER_30 = 28.0 * 0.94
"""CPU seconds of a plain encode of 30 s of clip on the machine of those numbers: 27 to 29, with loudnorm, without which
plain encodes have been measured since; they cost 0.94 of those with it."""


@dataclass(frozen=True)
class Verdict:
    """A measured value and its limit. `ok` is None if the two cannot be compared."""

    what: str
    value: float
    limit: float
    unit: str
    ok: bool | None
    note: str = ""


def summary(
    started: float,
    ended: float,
    cpu: float,
    measured: dict[str, Any],
    samples: list[tuple[float, float]],
    servers: dict[str, float],
) -> dict[str, Any]:
    """One job: its process from `started` to `ended` (monotonic clock), with `cpu` seconds used by its tree.

    The cost of Prefect and Redis is the flow's time outside the stages' work: `before` and `after` the
    stages, and around the work of each. Bucket calls within the work are listed separately.

    Args:
        measured: the output of the job's process.
        samples: (monotonic clock, resident MB of the process's tree).
        servers: the stack's `cpu` seconds during the job, and its `peak_mb`.
    """
    flow = measured["ended"] - measured["began"]
    stages = [_stage(stage, samples) for stage in measured["stages"]]
    around, bucket = flow - sum(s["work"] for s in stages), sum(s["bucket"] for s in stages)
    return {
        "seconds": ended - started,
        "cpu": cpu,
        "peak_mb": max(mb for _, mb in samples),
        "start": measured["began"] - started,
        "before": measured["stages"][0]["began"] - measured["began"],
        "after": measured["ended"] - measured["stages"][-1]["ended"],
        "exit": ended - measured["ended"],
        "flow": flow,
        "stages": stages,
        "overhead": {
            "seconds": around + bucket,
            "prefect_and_redis": around,
            "bucket": bucket,
            "background": measured["background"],
        },
        "servers": servers,
        "encodes": [{name: e[name] for name in ("stage", "file", "seconds", "cpu")} for e in measured["encodes"]],
        "clips": measured["clips"],
        "dropped": measured["dropped"],
    }


def _stage(stage: dict[str, Any], samples: list[tuple[float, float]]) -> dict[str, Any]:
    """A stage with its memory peak; a stage without a sample gets the nearest one."""
    middle = (stage["began"] + stage["ended"]) / 2
    nearest = min(samples, key=lambda sample: abs(sample[0] - middle))
    inside = [sample for sample in samples if stage["began"] <= sample[0] <= stage["ended"]]
    return {
        "stage": stage["stage"],
        "seconds": stage["ended"] - stage["began"],
        "peak_mb": max(mb for _, mb in [*inside, nearest]),
        **{name: stage[name] for name in ("work", "bucket", "cpu", "reused", "warnings")},
    }


def verdicts(runs: list[dict[str, Any]], *, comparable: bool) -> list[Verdict]:
    """The limits on the medians of all runs; `comparable` if source and request are the earlier service's."""

    def middle(of: Any) -> float:
        return median(of(run) for run in runs)

    plain = middle(lambda run: run["plain"]["cpu"])
    per_30 = middle(lambda run: 30 * run["plain"]["cpu"] / run["plain"]["seconds"])
    wall = middle(lambda run: run["job"]["seconds"])
    return [
        _wall(wall, per_30, comparable=comparable),
        _at_most(
            "encoding, plain encode = 1",
            middle(lambda run: encode_cpu(run["job"])) / plain,
            1.2,
            "",
            f"plain: {plain:.1f} CPU s, {per_30:.1f} per 30 s of clip",
        ),
        _at_most(
            "RENDER stage, plain encode = 1",
            middle(lambda run: stage_of(run["job"], "RENDER")["cpu"]) / plain,
            1.4,
            "",
            "CPU, with its analysis",
        ),
        _at_most(
            "wall time of RENDER, plain encodes = 1",
            middle(lambda run: stage_of(run["job"], "RENDER")["seconds"] / run["plain"]["wall"]),
            1.5,
            "",
            "as many at once; the goal is 1.1",
        ),
        _at_most(
            "memory of RENDER and its ffmpegs",
            middle(lambda run: stage_of(run["job"], "RENDER")["peak_mb"]) / 1000,
            1.4,
            "GB",
            "peak; the goal is 1",
        ),
        _at_most(
            "comparison with the source, RENDER = 1",
            middle(lambda run: run["comparison"] / stage_of(run["job"], "RENDER")["cpu"]),
            0.05,
            "",
            "CPU of the source's frames and sound levels",
        ),
        _at_most(
            "cut again: DOWNLOAD and TRANSCRIPT",
            middle(lambda run: _of_source(run["again"], "seconds")),
            2.0,
            "s",
            f"as the flow waits for them; {middle(lambda run: _of_source(run['again'], 'work')):.1f} of it their work",
        ),
        _at_most(
            "recut of one clip: drawing, its encode = 1",
            middle(lambda run: run["recut"]["draw"] / run["recut"]["encode"]),
            1.25,
            "",
            f"{middle(lambda run: run['recut']['encode']):.1f} s of encoding",
        ),
        _at_most(
            "recut of one clip: beside drawing",
            middle(lambda run: run["recut"]["beside"]),
            3.0,
            "s",
            f"Prefect, Redis, bucket, checks; before that, imports {middle(lambda run: run['recut']['imports']):.1f} s",
        ),
        _at_most(
            "all clips, one of them changed, first job = 1",
            middle(lambda run: run["recut"]["flow"] / run["job"]["flow"]),
            0.3,
            "",
            f"{middle(lambda run: run['recut']['flow']):.1f} s; {len(runs[0]['job']['clips'])} clips",
        ),
        _overhead("first job: Prefect, Redis, bucket", [run["job"]["overhead"] for run in runs]),
        _overhead("cut again: Prefect, Redis, bucket", [run["again"]["overhead"] for run in runs]),
    ]


STARTS = {
    "kangklip --help": 1.0,
    "kangklip clip, refused": 1.0,
    "import of the API": 2.0,
}
"""The limits in CPU seconds for a new process whose modules are already compiled."""


def start_verdicts(starts: dict[str, list[float]]) -> list[Verdict]:
    """The limits on the medians of `starts`: CPU seconds of several new processes, by the names in `STARTS`."""
    note = "CPU of a fresh process"
    return [_at_most(name, median(starts[name]), limit, "s", note) for name, limit in STARTS.items()]


def _wall(wall: float, per_30: float, *, comparable: bool) -> Verdict:
    """Wall time against the earlier service's on another machine, scaled by the cost of a plain encode on both."""
    factor = per_30 / EARLIER_PLAIN_PER_30
    value = wall / EARLIER_WALL / factor
    note = f"{wall:.1f} s of {EARLIER_WALL:.0f} s; a plain encode costs {factor:.2f} of what it did there"
    if not comparable:
        return Verdict("wall time, earlier service = 1", value, 0.6, "", None, "another source or request")
    return Verdict("wall time, earlier service = 1", value, 0.6, "", value <= 0.6, note)


def _overhead(what: str, overheads: list[dict[str, float]]) -> Verdict:
    around, bucket, background = (
        median(o[name] for o in overheads) for name in ("prefect_and_redis", "bucket", "background")
    )
    note = f"Prefect and Redis {around:.1f}, bucket {bucket:.1f}; in the background: {background:.1f}"
    return _at_most(what, median(o["seconds"] for o in overheads), 3.0, "s", note)


def _at_most(what: str, value: float, limit: float, unit: str, note: str) -> Verdict:
    return Verdict(what, value, limit, unit, value <= limit, note)


def exit_status(verdicts: list[dict[str, Any]]) -> int:
    """1 if a limit is exceeded, else 0; a verdict that is not judged does not count."""
    return int(any(verdict["ok"] is False for verdict in verdicts))


def stage_of(job: dict[str, Any], name: str) -> dict[str, Any]:
    return next(stage for stage in job["stages"] if stage["stage"] == name)


def _of_source(job: dict[str, Any], column: str) -> float:
    return sum(stage_of(job, name)[column] for name in ("DOWNLOAD", "TRANSCRIPT"))


def encode_cpu(job: dict[str, Any]) -> float:
    """CPU seconds of RENDER's encodes, without the clips that UPLOAD renders again."""
    return sum(encode["cpu"] for encode in job["encodes"] if encode["stage"] == "RENDER")


def text(result: dict[str, Any]) -> str:
    """The printed table."""
    machine, source = result["machine"], result["source"]
    lines = [
        f"{source['file']}: {source['seconds']:.0f} s, {source['size']}, {source['fps']:.0f} fps",
        f"{machine['cores']} cores ({machine['processor']}), load {machine['load']:.2f} at the start",
        ", ".join(f"{name} {value}" for name, value in result["settings"].items()),
    ]
    for number, run in enumerate(result["runs"], 1):
        of = f", run {number} of {len(result['runs'])}" if len(result["runs"]) > 1 else ""
        lines += ["", f"{_asked(result['request'])}{of}", *_job(run["job"])]
        lines += ["", f"The same talk again, {_asked(result['again'])}{of}", *_job(run["again"])]
    lines += ["", f"{'limit':40}{'value':>9}{'at most':>9}", *map(_verdict_line, result["verdicts"])]
    return "\n".join(lines)


def _asked(request: dict[str, Any]) -> str:
    return f"{pluralize(request['clip_count'], 'clip')} of {request['clip_duration_seconds']:g} s"


def _job(job: dict[str, Any]) -> list[str]:
    servers = job["servers"]
    rows = [
        _row("", "seconds", "work", "bucket", "CPU s", "peak MB", ""),
        _row("start, imports", job["start"]),
        _row("flow, before", job["before"]),
        *(_stage_row(stage, job) for stage in job["stages"]),
        _row("flow, after", job["after"]),
        _row("exit", job["exit"]),
        _row("the whole process", job["seconds"], None, None, job["cpu"], job["peak_mb"]),
        _row("the stack meanwhile", None, None, None, servers["cpu"], servers["peak_mb"]),
    ]
    clips = [f"  {clip['file']}  {clip['duration']:.1f} s  {clip['title']}" for clip in job["clips"]]
    dropped = [f"  dropped: {reason}" for reason in job["dropped"]]
    warnings = [f"  {warning}" for warning in job["stages"][-1]["warnings"]]  # UPLOAD repeats those of all stages
    return [*rows, *clips, *dropped, *warnings]


def _stage_row(stage: dict[str, Any], job: dict[str, Any]) -> str:
    cpu = sum(encode["cpu"] for encode in job["encodes"] if encode["stage"] == stage["stage"])
    notes = ["from the shared cache"] * stage["reused"] + [f"encoding {cpu:.1f} CPU s"] * (cpu > 0)
    return _row(
        stage["stage"],
        stage["seconds"],
        stage["work"],
        stage["bucket"],
        stage["cpu"],
        stage["peak_mb"],
        ", ".join(notes),
    )


def _row(name: str, *cells: float | str | None) -> str:
    *numbers, note = cells if isinstance(cells[-1], str) else (*cells, "")
    shown = ["" if cell is None else cell if isinstance(cell, str) else f"{cell:.1f}" for cell in numbers]
    return f"{name:20}{''.join(f'{cell:>9}' for cell in shown)}  {note}".rstrip()


def _verdict_line(verdict: dict[str, Any]) -> str:
    unit = f" {verdict['unit']}" if verdict["unit"] else ""
    judged = {True: "ok", False: "OVER", None: "not judged"}[verdict["ok"]]
    shown = f"{verdict['value']:.2f}{unit}"
    return f"{verdict['what']:40}{shown:>9}{verdict['limit']:>9g}  {judged:10}  {verdict['note']}".rstrip()
