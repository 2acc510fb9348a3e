import pytest

from tasks.engines import hardware
from tasks.engines.hardware import GIB, AsrPlan, choose, with_less_memory


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that reports one GPU."""
    monkeypatch.setattr(hardware.ctranslate2, "get_cuda_device_count", lambda: 1)
    return monkeypatch


def test_the_cpu_runs_base_in_int8() -> None:
    plan = choose("cpu")
    assert (plan.model, plan.device, plan.compute_type) == ("base", "cpu", "int8")
    assert plan.batch_size >= 1
    assert f"{hardware.cpu_cores()} core" in plan.reason


def test_a_requested_model_and_batch_size_are_kept() -> None:
    plan = choose("cpu", "tiny.en", 3)
    assert (plan.model, plan.batch_size) == ("tiny.en", 3)


@pytest.mark.parametrize(
    ("gib", "cores", "batch"), [(16, 2, 4), (16, 16, 8), (1.4, 16, 6), (0.9, 2, 2), (0.5, 2, 1), (None, 2, 4)]
)
def test_the_cpu_batch_size_follows_memory_and_cores(
    gib: float | None, cores: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_cores", lambda: cores)
    monkeypatch.setattr(hardware, "_free_bytes", lambda: gib and int(gib * GIB))
    assert choose("cpu").batch_size == batch


def test_cuda_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.ctranslate2, "get_cuda_device_count", lambda: 0)
    plan = choose("cuda")
    assert plan.device == "cpu"
    assert "cuda was requested" in plan.reason


@pytest.mark.parametrize(
    ("model", "free", "compute_type", "batches"),
    [
        (None, 24, "float16", range(32, 33)),
        ("large-v3", 24, "float16", range(32, 33)),
        ("large-v3", 8, "float16", range(8, 20)),
        ("large-v3", 4, "int8_float16", range(1, 8)),
        ("distil-whisper/distil-large-v3.5-ct2", 4, "int8_float16", range(1, 8)),
        ("small.en", 1, "int8_float16", range(1, 4)),
    ],
)
def test_gpu_memory_decides_compute_type_and_batch_size(
    model: str | None, free: float, compute_type: str, batches: range, gpu: pytest.MonkeyPatch
) -> None:
    gpu.setattr(hardware, "_free_gpu_bytes", lambda: int(free * GIB))
    plan = choose("auto", model)
    assert (plan.device, plan.model, plan.compute_type) == ("cuda", model or "small", compute_type)
    assert plan.batch_size in batches


def test_without_nvidia_smi_the_gpu_memory_is_unknown(gpu: pytest.MonkeyPatch) -> None:
    gpu.setenv("PATH", "")
    plan = choose()
    assert plan.batch_size == 8
    assert "unknown" in plan.reason


def test_out_of_memory_halves_the_batch_then_uses_int8_then_the_cpu() -> None:
    plan: AsrPlan | None = AsrPlan("small", "cuda", "float16", 4, "")
    plans: list[tuple[str, str, int]] = []
    while plan := with_less_memory(plan):
        plans.append((plan.device, plan.compute_type, plan.batch_size))
        assert "out of memory" in plan.reason
    assert plans[:3] == [("cuda", "float16", 2), ("cuda", "float16", 1), ("cuda", "int8_float16", 1)]
    assert [(device, compute_type) for device, compute_type, _ in plans[3:]] == [("cpu", "int8")]
