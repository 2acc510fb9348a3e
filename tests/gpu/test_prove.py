"""The proof of the GPU path: what counts as a fault, and all of it on a CPU."""

import json
import subprocess
import sys

import pytest

from tests.folders import ROOT
from tests.gpu.prove import PLANTED, faults

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


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_step_runs_on_a_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    asked = ["--device", "cpu", "--source", "tests/media/short.mp4", "--seconds", "9", "--count", "1"]
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
