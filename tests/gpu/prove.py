"""Shows what KangKlip's GPU path does on this machine: `make gpu`, or `make gpu ARGS="--device cpu"` without a GPU.

Recognises the sample in each precision, makes memory run out on purpose, encodes, decodes, and cuts clips with the
whole flow. Standard output gets one JSON object; progress goes to standard error. Each step runs in a process of its
own and gets a share of the time: one that hangs or aborts fails, and the others run. The exit status is 1 if a step
failed, or if a GPU was asked for and something ran elsewhere; it is 2 if there is no GPU.
"""

import argparse
import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ctranslate2
import ffmpeg

from tasks.engines import hardware
from tasks.engines.ffmpeg import choose_encoder, ffmpeg_exe, hwaccel, run
from tasks.engines.hardware import AsrOptions, AsrPlan
from tasks.engines.probe import probe
from tasks.engines.speech.recogniser import Recogniser
from tasks.engines.speech.whisper import transcribe_with
from tests.bench.processes import Sampler
from tests.folders import MEDIA
from tests.gpu.apart import Failed, apart
from tests.gpu.memory import GpuMemory

BEGAN = time.monotonic()
PRECISIONS = {"cuda": ("float16", "int8_float16"), "cpu": ("int8",)}
PLANTED = 2
"""Windows that may be decoded at once before memory "runs out"."""


def main() -> int:
    """Run all steps, print the result, and return the exit status."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that steps and folder are removed
    with tempfile.TemporaryDirectory(prefix="kangklip-gpu-", ignore_cleanup_errors=True) as folder:
        try:
            result = prove(asked, Path(folder))
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 2
    text = json.dumps(result, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")
    return 1 if result["faults"] else 0


def prove(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The result of all steps; one that fails does not keep the others from running.

    Raises:
        Failed: a GPU was asked for, and CTranslate2 finds none.
    """
    here = apart(asked.within * 0.2, machine)
    if asked.device == "cuda" and not here["cuda_devices"]:
        raise Failed('CTranslate2 finds no GPU here. Without one: make gpu ARGS="--device cpu"')
    if asked.minutes:
        asked.source = repeated(asked.source, asked.minutes, folder)
    result: dict[str, Any] = {
        "asked": asked.device,
        "machine": here,
        "source_seconds": probe(asked.source).duration,
    }
    for name, (step, share) in STEPS.items():
        began = time.monotonic()
        say(name)
        try:
            left = max(0.0, asked.within - (began - BEGAN))
            result[name] = apart(min(asked.within * share, left), step, asked, folder)
        except Failed as failure:
            result[name] = {"failed": str(failure)}
        result.setdefault("seconds", {})[name] = round(time.monotonic() - began, 1)
    result["seconds"]["all"] = round(time.monotonic() - BEGAN, 1)
    result["faults"] = faults(result)
    return result


def say(line: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {line}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.gpu.prove", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="what must be used (%(default)s)")
    parser.add_argument("--model", default="base", help="Whisper model (%(default)s)")
    parser.add_argument("--source", type=Path, default=MEDIA / "sample.mp4", help="video to cut; the sample if omitted")
    parser.add_argument("--seconds", type=float, default=30, help="seconds per clip (%(default)s)")
    parser.add_argument("--count", type=int, default=3, help="clips (%(default)s)")
    parser.add_argument("--minutes", type=float, help="repeat the source until it is so long")
    parser.add_argument("--within", type=float, default=480, help="seconds for all steps (%(default)s)")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    asked = parser.parse_args()
    if not asked.source.is_file():
        parser.error(f"--source: there is no file {asked.source}")
    return asked


def machine() -> dict[str, Any]:
    """What runs this: names and versions, no paths."""
    return {
        "gpus": GpuMemory.describe(),
        "cuda_devices": ctranslate2.get_cuda_device_count(),
        "cores": hardware.cpu_cores(),
        "python": platform.python_version(),
        "cublas": cublas(),
        "ctranslate2": version("ctranslate2"),
        "faster_whisper": version("faster-whisper"),
        "ffmpeg": version("imageio-ffmpeg"),
    }


def cublas() -> str | None:
    """The version of the cuBLAS that CTranslate2 would load; None if the loader finds none."""
    try:
        library = ctypes.CDLL("libcublas.so.12")
    except OSError:
        return None
    numbers = [ctypes.c_int() for _ in ("major", "minor", "patch")]
    for place, number in enumerate(numbers):
        library.cublasGetProperty(place, ctypes.byref(number))
    return ".".join(str(number.value) for number in numbers)


def repeated(source: Path, minutes: float, folder: Path) -> Path:
    """The source again and again, without decoding it; a container of its own keeps the time stamps in order."""
    longer = folder / f"repeated{source.suffix}"
    loop = ffmpeg.input(f"file:{source}", stream_loop=-1, t=minutes * 60)
    run(loop.output(f"file:{longer}", c="copy"), 120)
    return longer


def recognition(asked: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Transcribe the source in each precision of the device."""
    return [recognition_in(precision, asked, folder) for precision in PRECISIONS[asked.device]]


def recognition_in(precision: str, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Transcribe the source in this precision, with the batch that is chosen for this machine."""
    plan = hardware.choose(asked.device, asked.model)
    with _planned(replace(plan, compute_type=precision)), _peak(asked.device) as peak:
        began = time.monotonic()
        recogniser = Recogniser(AsrOptions(cache=folder / "weights", model=asked.model, device=asked.device))
        loaded = time.monotonic()
        found = transcribe_with(recogniser, asked.source, ffmpeg_exe(), lambda done, total: None)
        ended = time.monotonic()
    used = recogniser.plan
    return {
        "device": used.device,
        "compute_type": used.compute_type,
        "batch": used.batch_size,
        "model": used.model,
        "load_seconds": round(loaded - began, 2),
        "seconds_per_minute": round((ended - loaded) / found.duration * 60, 3),
        "peak_mb": peak(),
        "words": sum(len(segment.words) for segment in found.segments),
        "fallbacks": recogniser.warnings,
    }


def out_of_memory(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Refuse batches of more than PLANTED windows, as CTranslate2 does when GPU memory runs out."""
    if asked.device == "cpu":
        return {"skipped": "a CPU has no smaller plan"}
    recogniser = Recogniser(AsrOptions(cache=folder / "weights", model=asked.model, device="cuda", batch_size=8))
    batches: list[int] = []
    decode = recogniser._decode

    def limited(samples: Any, windows: Any, language: str, beam: int) -> Any:
        batches.append(len(windows))
        if len(windows) > PLANTED:
            raise RuntimeError("CUDA failed with error out of memory")
        return decode(samples, windows, language, beam)

    with patch.object(recogniser, "_decode", limited):
        found = transcribe_with(recogniser, asked.source, ffmpeg_exe(), lambda done, total: None)
    return {
        "batches": list(dict.fromkeys(batches)),
        "device": recogniser.plan.device,
        "batch": recogniser.plan.batch_size,
        "words": sum(len(segment.words) for segment in found.segments),
        "fallbacks": recogniser.warnings,
    }


def encoder(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Encode five seconds of noise in a clip's size."""
    choice = choose_encoder("x264" if asked.device == "cpu" else "auto")
    preset = {"preset": "p4"} if choice.name == "h264_nvenc" else {"preset": "veryfast"}
    picture = ffmpeg.input("testsrc2=s=1080x1920:r=30:d=5,noise=alls=20:allf=t", f="lavfi")
    began = time.monotonic()
    run(picture.output(str(folder / "encoded.mp4"), vcodec=choice.name, pix_fmt="yuv420p", **preset), 300)
    return {"name": choice.name, "why": choice.reason, "frames_per_second": round(150 / (time.monotonic() - began))}


def decoder(asked: argparse.Namespace, _folder: Path) -> dict[str, Any]:
    """Decode up to a minute of the source as RENDER does."""
    source = asked.source
    options = hwaccel(source)
    seconds = min(60.0, probe(source).duration)
    began = time.monotonic()
    run(ffmpeg.input(f"file:{source}", t=seconds, **options).video.output("-", f="null"), 300)
    speed = round(seconds / (time.monotonic() - began), 1)
    return {"on": options.get("hwaccel", "cpu"), "times_real_time": speed}


def whole_flow(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """`kangklip clip` in a process of its own: the embedded stack, all stages, all checks."""
    command = [sys.executable, "-m", "deployments.cli.main", "clip", str(asked.source), "--json"]
    command += ["--duration", str(asked.seconds), "--count", str(asked.count), "--out", str(folder / "clips")]
    forced = {"ASR_DEVICE": asked.device, "ASR_MODEL": asked.model, "KANGKLIP_DATA_DIR": str(folder / "data")}
    forced["RENDER_ENCODER"] = "x264" if asked.device == "cpu" else "auto"
    with _peak(asked.device) as peak:
        done = subprocess.run(command, env=os.environ | forced, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kangklip clip ended with {done.returncode}: {done.stderr[-500:]}")
    manifest = json.loads(next((folder / "clips").glob("*/manifest.json")).read_text())
    seconds = manifest["timings"]
    return {
        "clips": len(manifest["clips"]),
        "checks": all(check["ok"] for clip in manifest["clips"] for check in clip["checks"]),
        "speech": {
            name: manifest["models"]["speech"][name] for name in ("model", "device", "compute_type", "batch_size")
        },
        "encoders": sorted({f"{clip['encoder']}: {clip['encoder_reason']}" for clip in manifest["clips"]}),
        "stage_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "recognition_and_render_seconds": round(seconds["TRANSCRIPT"] + seconds["RENDER"], 1),
        "peak_mb": peak(),
        "warnings": manifest["warnings"],
    }


def faults(result: dict[str, Any]) -> list[str]:
    """What failed, or ran on a CPU although a GPU was asked for. A GPU without an encoder is no fault."""
    found = [
        f"{name}: {value['failed']}" for name, value in result.items() if isinstance(value, dict) and "failed" in value
    ]
    if found or result["asked"] == "cpu":
        return found
    found += [
        f"recognition on {one['device']} in {one['compute_type']}" for one in result["recognition"] if one["fallbacks"]
    ]
    limited = result["out_of_memory"]
    if (limited["device"], limited["batch"]) != ("cuda", PLANTED):
        found.append(f"memory ran out, and then it was {limited['device']}, batch {limited['batch']}")
    if result["flow"]["speech"]["device"] != "cuda":
        found.append("the flow recognised speech on the CPU")
    return found


STEPS: dict[str, tuple[Callable[[argparse.Namespace, Path], Any], float]] = {
    "recognition": (recognition, 0.4),
    "out_of_memory": (out_of_memory, 0.2),
    "encoder": (encoder, 0.3),
    "decoder": (decoder, 0.15),
    "flow": (whole_flow, 0.7),
}
"""Each step, and the most of all time that it may take."""


@contextmanager
def _planned(plan: AsrPlan) -> Iterator[None]:
    """Recognisers use this plan."""
    with patch.object(hardware, "choose", lambda *_: plan):
        yield


@contextmanager
def _peak(device: str) -> Iterator[Callable[[], int | None]]:
    """The most memory in MB that was used: the GPU's, or on a CPU that of this process and those it started.

    None if it is unknown, as without nvidia-smi.
    """
    with GpuMemory() if device == "cuda" else Sampler([os.getpid()]) as sampler:
        yield lambda: round(max((mb for _, mb in sampler.samples), default=0.0)) or None


if __name__ == "__main__":
    sys.exit(main())
