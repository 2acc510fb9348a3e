"""The proof of the GPU path: what counts as a fault, a step that fails, and all of it on a CPU."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.engines.probe import probe
from tests.folders import MEDIA, ROOT
from tests.gpu import prove as proof
from tests.gpu.prove import PLANTED, faults, repeated

ON_GPU = {
    "asked": "cuda",
    "recognition": [{"device": "cuda", "compute_type": "float16", "fallbacks": []}],
    "out_of_memory": {"device": "cuda", "batch": PLANTED},
    "encoder": {"name": "libx264", "why": "NVENC does not work here"},
    "decoder": {"on": "cpu"},
    "flow": {"speech": {"device": "cuda"}},
}
WRONG = {
    "recognition fell back": {"recognition": [{"device": "cpu", "compute_type": "int8", "fallbacks": ["no cuBLAS"]}]},
    "memory ran out at once": {"out_of_memory": {"device": "cpu", "batch": 4}},
    "the flow used the CPU": {"flow": {"speech": {"device": "cpu"}}},
    "a step failed": {"encoder": {"failed": "FfmpegError: x"}},
}


def test_a_gpu_without_an_encoder_is_no_fault():
    assert faults(ON_GPU) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_did_not_run_on_the_gpu_is_a_fault(name: str):
    assert len(faults(ON_GPU | WRONG[name])) == 1


def test_on_a_cpu_only_failures_are_faults():
    assert faults(ON_GPU | WRONG["the flow used the CPU"] | {"asked": "cpu"}) == []
    assert faults(ON_GPU | WRONG["a step failed"] | {"asked": "cpu"}) == ["encoder: FfmpegError: x"]


def hangs(asked: argparse.Namespace, folder: Path) -> None:
    time.sleep(600)


def aborts(asked: argparse.Namespace, folder: Path) -> None:
    os.abort()


def works(asked: argparse.Namespace, folder: Path) -> str:
    return asked.device


def test_a_step_that_hangs_or_aborts_leaves_the_others_their_time(tmp_path, monkeypatch):
    steps = {"hanging": (hangs, 0.1), "aborting": (aborts, 0.4), "working": (works, 0.4)}
    monkeypatch.setattr(proof, "STEPS", steps)
    monkeypatch.setattr(proof, "BEGAN", time.monotonic())
    asked = argparse.Namespace(device="cpu", source=MEDIA / "short.mp4", minutes=None, within=100)
    result = proof.prove(asked, tmp_path)
    assert result["working"] == "cpu"
    assert result["faults"] == [
        "hanging: it did not end within 10 s",
        "aborting: its process was ended by SIGABRT",
    ]
    assert 10 <= result["seconds"]["hanging"] < 30


def test_when_time_is_up_the_rest_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "STEPS", {"hanging": (hangs, 1.0)})
    monkeypatch.setattr(proof, "BEGAN", time.monotonic() - 1000)
    asked = argparse.Namespace(device="cpu", source=MEDIA / "short.mp4", minutes=None, within=500)
    result = proof.prove(asked, tmp_path)
    assert result["faults"] == ["hanging: it did not end within 0 s"]
    assert result["seconds"]["hanging"] < 10


def test_without_a_gpu_it_says_so_at_once():
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.gpu.prove"]
    done = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'CTranslate2 finds no GPU here. Without one: make gpu ARGS="--device cpu"\n'


def test_a_proof_that_is_ended_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-m", "tests.gpu.prove", "--device", "cpu"]
    own = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=own, stderr=subprocess.PIPE, text=True) as running:
        assert "recognition" in running.stderr.readline()
        running.terminate()
        assert running.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_source_is_repeated_to_the_length_asked_for(tmp_path):
    longer = probe(repeated(MEDIA / "short.mp4", 2, tmp_path))
    once = probe(MEDIA / "short.mp4")
    assert longer.duration == pytest.approx(120, abs=0.2)
    assert (longer.width, longer.height, longer.fps) == (once.width, once.height, pytest.approx(once.fps, rel=0.01))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_step_runs_on_a_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    asked = ["--device", "cpu", "--source", "tests/media/short.mp4", "--seconds", "9", "--count", "1"]
    asked += ["--within", "840"]  # the machine may be busy
    command = [sys.executable, "-m", "tests.gpu.prove", *asked, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert json.loads(done.stdout) == result
    (heard,) = result["recognition"]
    assert (heard["device"], heard["compute_type"], heard["fallbacks"]) == ("cpu", "int8", [])
    assert heard["words"] > 80
    assert 0 < heard["seconds_per_minute"] < 60
    assert result["out_of_memory"] == {"skipped": "a CPU has no smaller plan"}
    assert (result["encoder"]["name"], result["decoder"]["on"]) == ("libx264", "cpu")
    assert (result["flow"]["clips"], result["flow"]["checks"]) == (1, True)
    assert result["faults"] == []
