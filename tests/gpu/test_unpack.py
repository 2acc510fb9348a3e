"""A folder that cannot be used is refused in one line, which names what is wrong with it."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gpu import unpack
from tests.gpu.pack import fill
from tests.gpu.unpack import CONTENTS, Refused, matching_python, require_gpu, require_pieces

OWN = "{}.{}".format(*sys.version_info[:2])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder, of three pieces."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "wheels").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.gpu.pack.LARGEST_PIECE", 8_000)
        fill(folder, folder / "wheels", ["Makefile"], [OWN])
    (folder / "wheels").rmdir()
    return folder


@pytest.fixture
def carried(packed: Path, tmp_path: Path) -> Path:
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def contents(folder: Path, **changes: object) -> dict:
    changed = json.loads((folder / CONTENTS).read_text()) | changes
    (folder / CONTENTS).write_text(json.dumps(changed))
    return changed


def said_by_run(folder: Path, path: str = f"{Path(sys.executable).parent}:/usr/bin:/bin") -> str:
    """The last line of a refusal."""
    command = ["/bin/sh", str(folder / "run.sh"), "--device", "cpu"]
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (folder / "work" / "installed.json").exists()
    return done.stderr.splitlines()[-1]


def test_without_python_it_says_so(carried):
    assert said_by_run(carried, "") == "There is no Python 3.11 or later on this machine: install one."


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_an_old_python_is_passed_over(carried, tmp_path_factory):
    programs = tmp_path_factory.mktemp("programs")
    program(programs, "python3", "exit 1")
    program(programs, "python3.13", f'exec {sys.executable} "$@"')
    contents(carried, pythons=["3.99"])
    assert said_by_run(carried, str(programs)).startswith(f"This folder is for Python 3.99, and here is {OWN}: ")


def test_a_folder_that_cannot_be_written_to_is_named(carried):
    (carried / "work").write_text("in the way")
    assert said_by_run(carried).endswith(": copy this folder to a disk where files may be written and run.")


def test_another_python_is_named(carried):
    contents(carried, pythons=["3.99", "3.98"])
    assert said_by_run(carried) == (
        f"This folder is for Python 3.99 and 3.98, and here is {OWN}: install python3.99, "
        f'or pack again with make pack ARGS="--python {OWN}".'
    )


def test_too_little_disk_is_measured_before_anything_is_written(carried):
    contents(carried, bytes_needed=10**18)
    assert said_by_run(carried).startswith(f"Too little disk in {carried}: 1000000000000 MB are needed, ")
    assert not (carried / "work").exists()


def test_missing_contents_are_asked_for(carried):
    (carried / CONTENTS).unlink()
    assert said_by_run(carried) == "contents.json is missing or damaged: carry it here again."


def test_a_missing_piece_is_named(carried):
    (carried / "piece-002").unlink()
    assert said_by_run(carried) == "piece-002 is missing: carry it here."


def test_a_piece_too_many_is_named(carried):
    (carried / "piece-009").write_bytes(b"left over")
    assert said_by_run(carried) == "piece-009 does not belong here: delete it."


def test_a_wheel_that_is_not_there_is_no_traceback(carried):
    assert said_by_run(carried) == "There is no uv among the wheels: pack again."


@given(data=st.data())
def test_a_changed_piece_is_named(packed, data):
    pieces = contents(packed)["pieces"]
    name = data.draw(st.sampled_from(sorted(pieces)))
    kept = (packed / name).read_bytes()
    place = data.draw(st.integers(0, len(kept) - 1))
    other = bytes([kept[place] ^ data.draw(st.integers(1, 255))])
    (packed / name).write_bytes(data.draw(st.sampled_from([kept[:place], kept[:place] + other + kept[place + 1 :]])))
    try:
        with pytest.raises(Refused, match=rf"^{name} is damaged: carry it here again\.$"):
            require_pieces(packed, pieces)
    finally:
        (packed / name).write_bytes(kept)
    require_pieces(packed, pieces)


def test_an_interpreter_on_the_path_must_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "python3.98", "exit 127")
    with pytest.raises(Refused):
        matching_python(["3.98"])
    program(tmp_path, "python3.97", "echo 3.97")
    assert matching_python(["3.98", "3.97"]) == str(tmp_path / "python3.97")
    assert matching_python(["3.98", OWN]) == sys.executable


class Driver:
    """Stands in for libcuda."""

    def __init__(self, status: int, count: int) -> None:
        self._status, self._count = status, count

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
        return self._status

    def cuDeviceGetCount(self, count) -> int:  # noqa: N802 - the driver's name
        count._obj.value = self._count
        return 0


@pytest.mark.parametrize(
    ("driver", "why"),
    [
        (None, "NVIDIA's driver, libcuda.so.1, is not installed"),
        (Driver(100, 0), "the driver answers with error 100"),
        (Driver(0, 0), "the driver knows none"),
    ],
)
def test_no_gpu_is_one_line(monkeypatch, driver, why):
    def load(name: str) -> Driver:
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(Refused, match=rf"^No GPU was found: {why}\. .+ \./run\.sh --device cpu$"):
        require_gpu()


def test_a_gpu_is_enough(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(0, 1))
    require_gpu()


def test_the_loader_is_told_where_cublas_is(tmp_path, monkeypatch):
    python = tmp_path / "venv" / "bin" / "python"
    library = tmp_path / "venv" / "lib" / "python3.12" / "site-packages" / "nvidia" / "cublas" / "lib"
    library.mkdir(parents=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/of/the/driver")
    told = unpack._environment(python, tmp_path / "source")
    assert told["LD_LIBRARY_PATH"].split(os.pathsep) == [str(library), "/of/the/driver"]
