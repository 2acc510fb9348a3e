"""Chooses the recogniser's device and batch size for this machine."""

import logging
import os
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import ctranslate2
import psutil

from tasks.core.errors import ProgramStopped
from tasks.core.plurals import pluralize

Device = Literal["cpu", "cuda"]

GIB = 1024**3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AsrOptions:
    """Settings of the recogniser; None means to choose by hardware.

    `model` is a Whisper size, a hub repository or a folder; `cache` is the folder for joined weights;
    `beam_size` 1 is greedy decoding.
    """

    cache: Path
    model: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    beam_size: int = 1


@dataclass(frozen=True)
class AsrPlan:
    """Which model to run where. `reason` is one line for the log."""

    model: str
    device: Device
    compute_type: str
    batch_size: int
    reason: str


_GPU_NEED_GIB = {"tiny": (0.5, 0.06), "base": (0.6, 0.08), "small": (1.3, 0.12), "medium": (3.0, 0.18)}
_LARGE_NEED_GIB = (4.4, 0.23)
"""Float16 memory in GiB at batch 1, and for each additional window.

Large: faster-whisper's own benchmark (4,525 MB at one window, 6,090 MB at eight; int8_float16
2,926 MB); smaller models are scaled by their size.
"""


_CPU_WINDOW_BYTES = 128 * 1024**2
"""Memory per window decoded at once. Measured with base on two cores: peaks of 492, 773 and
1,111 MB for 1, 4 and 8 windows, and 0.103, 0.088 and 0.087 CPU seconds per second of sound: above
four, more windows cost memory and save nothing."""


def choose(device: str = "auto", model: str | None = None, batch: int | None = None) -> AsrPlan:
    """Float16 on a GPU, int8_float16 if it is short of memory, int8 on a CPU.

    `device` is auto, cpu or cuda. If the requested device is missing, the CPU is used and
    `reason` says so.
    """
    if device == "cpu":
        return _on_cpu(model, batch, "requested")
    gpus = ctranslate2.get_cuda_device_count()
    if not gpus:
        return _on_cpu(model, batch, "cuda was requested, but no GPU is visible" if device == "cuda" else "no GPU")
    return _on_gpu(model or "small", batch, _free_gpu_bytes())


def cpu_cores() -> int:
    """Cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_less_memory(plan: AsrPlan) -> AsrPlan | None:
    """The next plan after a GPU ran out of memory: half the batch, then int8_float16, then the CPU, then None."""
    if plan.device == "cpu":
        return None
    if plan.batch_size > 1:
        return replace(plan, batch_size=plan.batch_size // 2, reason="the GPU ran out of memory: half the batch")
    if plan.compute_type == "float16":
        return replace(plan, compute_type="int8_float16", reason="the GPU ran out of memory: int8 weights")
    return on_cpu_instead(plan, "the GPU ran out of memory")


def on_cpu_instead(plan: AsrPlan, reason: str) -> AsrPlan:
    """The same model on the CPU."""
    return _on_cpu(plan.model, None, reason)


def _on_cpu(model: str | None, batch: int | None, reason: str) -> AsrPlan:
    free, cores = _free_bytes(), cpu_cores()
    widest = 8 if cores > 4 else 4
    room = widest if free is None else int((free - 0.6 * GIB) / _CPU_WINDOW_BYTES)
    by_memory = min(max(room, 1), widest)
    return AsrPlan(model or "base", "cpu", "int8", batch or by_memory, f"CPU, {pluralize(cores, 'core')}: {reason}")


def _on_gpu(model: str, batch: int | None, free: int | None) -> AsrPlan:
    size = re.split(r"[.-]", model.rsplit("/", 1)[-1], maxsplit=1)[0]
    need, each = _GPU_NEED_GIB.get(size, _LARGE_NEED_GIB)
    if free is None:
        return AsrPlan(model, "cuda", "float16", batch or 8, "GPU with unknown free memory")
    gib = free / GIB
    compute_type = "float16" if gib >= need + each else "int8_float16"
    room = (gib - (need if compute_type == "float16" else 0.65 * need)) / each
    return AsrPlan(model, "cuda", compute_type, batch or min(max(int(room), 1), 32), f"GPU with {gib:.1f} GiB free")


def _free_gpu_bytes() -> int | None:
    """Free memory of the fullest GPU, because a container may get any of them; None if unknown."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return min(int(line) for line in output.split()) * 1024**2
    except subprocess.CalledProcessError as error:
        if error.returncode < 0:
            raise ProgramStopped(f"nvidia-smi was killed by signal {-error.returncode}") from error
        _log.warning("nvidia-smi did not report the free GPU memory: %s", error)
        return None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        _log.warning("nvidia-smi did not report the free GPU memory: %s", error)
        return None


def _free_bytes() -> int | None:
    """Memory available without swapping, within the container's limit; None if unknown."""
    found: list[int] = []
    try:
        found.append(psutil.virtual_memory().available)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        found += [int(limit) - used] if limit != "max" else []
    except (OSError, ValueError):
        _log.debug("The container's memory limit is unknown", exc_info=True)
    return min(found, default=None)
