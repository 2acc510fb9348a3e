"""The benchmark's arithmetic and its table, and in the soak tests a small run of all of it."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.bench import report
from tests.bench.plain import still_crop
from tests.bench.processes import Sampler, cpu_seconds, sum_over_trees
from tests.bench.starts import cold_starts
from tests.folders import ROOT

STAGES = ("DOWNLOAD", "TRANSCRIPT", "CHUNK", "SELECT", "RENDER", "UPLOAD")


def measured(seconds=10.0, work=9.5, bucket=0.25, cpu=15.0):
    """The output of a job's process: six equal stages from second 103 on, and two encodes in RENDER."""
    stages = [
        {
            "stage": name,
            "began": 103.0 + number * seconds,
            "ended": 103.0 + (number + 1) * seconds,
            "work": work,
            "bucket": bucket,
            "cpu": cpu,
            "reused": False,
            "warnings": [],
        }
        for number, name in enumerate(STAGES)
    ]
    encodes = [
        {"stage": stage, "file": "clip_01.mp4", "seconds": 20.0, "cpu": cpu, "captions": "0-clip_01.ass"}
        for stage, cpu in (("RENDER", 5.0), ("RENDER", 6.0), ("UPLOAD", 4.0))
    ]
    ended = stages[-1]["ended"] + 0.5
    clips = [{"file": "clip_01.mp4", "duration": 20.0, "title": "A title"}]
    return {
        "began": 102.0,
        "ended": ended,
        "background": 7.0,
        "stages": stages,
        "encodes": encodes,
        "clips": clips,
        "dropped": [],
    }


def job(**changes):
    """A job with 200 MB of memory, and 900 MB for a moment in TRANSCRIPT (seconds 113 to 123)."""
    samples = [(100.0 + at, 900.0 if at == 15 else 200.0) for at in range(65)]
    return report.summary(100.0, 164.5, 99.0, measured(**changes), samples, {"cpu": 2.0, "peak_mb": 400.0})


def run(**plain):
    quick = {"seconds": 0.75, "work": 0.5, "bucket": 0.125}
    recut = {"imports": 3.0, "flow": 14.0, "draw": 12.0, "encode": 10.0, "beside": 2.0}
    cost = {
        "plain": {"cpu": 10.0, "seconds": 300 / report.EARLIER_PLAIN_PER_30, "wall": 8.0} | plain,
        "comparison": 0.9,
        "recut": recut,
    }
    return {"job": job(), "again": job(**quick)} | cost


def by_name(found):
    return {verdict.what: verdict for verdict in found}


def test_a_jobs_time_is_split_into_start_stages_and_overhead():
    made = job()

    assert (made["start"], made["before"], made["after"], made["exit"]) == (2.0, 1.0, 0.5, 1.0)
    assert made["flow"] == 61.5
    assert made["overhead"] == {"seconds": 6.0, "prefect_and_redis": 4.5, "bucket": 1.5, "background": 7.0}
    assert "captions" not in made["encodes"][0]


def test_a_memory_peak_belongs_to_the_stage_in_which_it_occurs():
    peaks = {stage["stage"]: stage["peak_mb"] for stage in job()["stages"]}

    assert peaks == dict.fromkeys(STAGES, 200.0) | {"TRANSCRIPT": 900.0}


def test_a_stage_shorter_than_the_sampling_gets_the_nearest_sample():
    quick = job(seconds=0.1)

    assert [stage["peak_mb"] for stage in quick["stages"]] == [200.0] * 6


def test_a_slow_start_is_over_its_limit():
    starts = {name: [limit / 2, limit / 2, limit * 9] for name, limit in report.STARTS.items()}
    assert all(verdict.ok for verdict in report.start_verdicts(starts))
    starts["kangklip --help"] = [1.1, 1.1, 0.1]
    assert [verdict.ok for verdict in report.start_verdicts(starts)] == [False, True, True]


def test_cold_starts_are_measured_for_every_limit():
    starts = cold_starts(times=1)
    assert starts.keys() == report.STARTS.keys()
    assert all(0.05 < seconds < 60 for times in starts.values() for seconds in times)


def test_verdicts_say_which_limits_are_kept():
    found = by_name(report.verdicts([run()], comparable=True))

    assert found["wall time, earlier service = 1"].value == pytest.approx(64.5 / 214)
    assert found["encoding, plain encode = 1"].value == pytest.approx(1.1)
    assert found["RENDER stage, plain encode = 1"].value == pytest.approx(1.5)
    assert found["wall time of RENDER, plain encodes = 1"].value == pytest.approx(10.0 / 8.0)
    assert found["memory of RENDER and its ffmpegs"].value == pytest.approx(0.2)
    assert found["comparison with the source, RENDER = 1"].value == pytest.approx(0.06)
    assert found["cut again: DOWNLOAD and TRANSCRIPT"].value == pytest.approx(1.5)
    assert found["first job: Prefect, Redis, bucket"].value == pytest.approx(6.0)
    assert found["recut of one clip: drawing, its encode = 1"].value == pytest.approx(1.2)
    assert found["recut of one clip: beside drawing"].value == pytest.approx(2.0)
    assert found["all clips, one of them changed, first job = 1"].value == pytest.approx(14.0 / 61.5)
    judged = [verdict.ok for verdict in found.values()]
    assert judged == [True, True, False, True, True, False, True, True, True, True, False, False]


def test_the_wall_time_is_scaled_by_the_cost_of_a_plain_encode():
    twice_as_slow = report.verdicts([run(cpu=2 * report.EARLIER_PLAIN_PER_30, seconds=30.0)], comparable=True)[0]

    assert twice_as_slow.value == pytest.approx(64.5 / 214 / 2)
    assert "costs 2.00 of what it did there" in twice_as_slow.note


def test_another_source_is_not_compared_with_the_earlier_service():
    assert report.verdicts([run()], comparable=False)[0].ok is None


def test_several_runs_are_judged_by_their_median():
    found = by_name(report.verdicts([run(cpu=cpu) for cpu in (8.0, 10.0, 30.0)], comparable=True))

    assert found["encoding, plain encode = 1"].value == pytest.approx(1.1)


def test_the_table_lists_every_stage_and_exceeded_limits():
    result = {
        "machine": {"cores": 2, "processor": "A processor", "load": 0.5, "python": "3.11.9"},
        "settings": {"asr_model": "base"},
        "source": {"file": "talk.mp4", "seconds": 600.0, "size": "1920x1080", "fps": 30.0},
        "request": {"clip_duration_seconds": 45.0, "clip_count": 3},
        "again": {"clip_duration_seconds": 30.0, "clip_count": 1},
        "runs": [run()],
        "verdicts": [vars(verdict) for verdict in report.verdicts([run()], comparable=True)],
    }

    lines = report.text(result).splitlines()

    starts = [line.split()[0] for line in lines if line]
    assert all(starts.count(name) == 2 for name in ("DOWNLOAD", "TRANSCRIPT", "CHUNK", "SELECT", "UPLOAD"))
    assert sum("encoding 11.0 CPU s" in line for line in lines) == 2
    assert [line.split("  ")[0] for line in lines if "OVER" in line] == [
        "RENDER stage, plain encode = 1",
        "comparison with the source, RENDER = 1",
        "first job: Prefect, Redis, bucket",
        "cut again: Prefect, Redis, bucket",
    ]
    assert "3 clips of 45 s" in lines
    assert "The same talk again, 1 clip of 30 s" in lines


@pytest.mark.parametrize(
    ("judged", "status"), [([True], 0), ([None], 0), ([], 0), ([True, False], 1), ([False, None, True], 1)]
)
def test_the_exit_status_is_1_if_a_limit_is_exceeded(judged, status):
    assert report.exit_status([{"ok": ok} for ok in judged]) == status


@pytest.mark.parametrize(
    ("source", "crop"),
    [((1920, 1080), (608, 1080)), ((720, 1280), (720, 1280)), ((1080, 1080), (608, 1080)), ((606, 1080), (606, 1078))],
)
def test_the_plain_crop_is_the_largest_of_the_clips_aspect_ratio(source, crop):
    assert still_crop(source, (1080, 1920)) == crop


def test_processes_are_measured_with_their_children_and_after_their_end():
    busy = "import subprocess, sys; x = bytearray(50_000_000); subprocess.run(['sleep', '1'])"
    with subprocess.Popen([sys.executable, "-c", busy]) as process:
        with Sampler([process.pid]) as sampler:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        used = cpu_seconds(process.pid)
    assert max(mb for _, mb in sampler.samples) > 50
    assert 0 < used < 1
    assert sum_over_trees(cpu_seconds, [process.pid]) == 0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_small_run_measures_everything(tmp_path):
    root = ROOT
    sample = root / "tests" / "media" / "short.mp4"
    small = ["--source", str(sample), "--seconds", "10", "--count", "1", "--resolution", "270x480"]
    command = [sys.executable, "-m", "tests.bench", *small]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    took = time.monotonic() - began
    table, _, last = done.stdout.strip().rpartition("\n")
    assert "RENDER" in table, done.stderr
    result = json.loads(last)
    assert done.returncode == int("  OVER  " in table), table
    assert result == json.loads((tmp_path / "build" / "bench" / "result.json").read_text())
    made, again = result["runs"][0]["job"], result["runs"][0]["again"]
    assert [stage["stage"] for stage in made["stages"]] == list(STAGES)
    assert [stage["reused"] for stage in again["stages"]][:2] == [True, True]
    assert made["seconds"] + again["seconds"] < took
    render = report.stage_of(made, "RENDER")
    assert 0 < result["runs"][0]["comparison"] < render["cpu"]
    assert 0 < report.encode_cpu(made) < render["cpu"] < made["cpu"]
    assert 0 < made["overhead"]["bucket"] < made["overhead"]["seconds"] < made["flow"]
    assert result["verdicts"][0]["ok"] is None
