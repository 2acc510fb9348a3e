"""Proves KangKlip's GPU path from a folder that `make pack` has filled and somebody has carried to this machine.

Checks the pieces, unpacks them into work/, installs the wheels there, and runs `python -m tests.gpu.prove`, whose JSON
goes to gpu.json beside this file. Needs Python and NVIDIA's driver, and no network. All other options are the
proof's own, for example: --device cpu (without a GPU), --minutes 60, --source talk.mp4.
"""

# It runs before anything is installed: the standard library alone.
import argparse
import ctypes
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

SECONDS = 480
"""For everything, from the first check to the JSON."""
CONTENTS = "contents.json"
PIECE = "piece-"
BLOCK_BYTES = 1 << 20
DATA_PYTHON = "3.13"
"""The Python whose wheels of requirements/speakers.txt are installed for every Python, as in the Makefile."""


class Refused(Exception):
    """Something that the user has to put right; the message is one line that says how."""


def main() -> None:
    """Unpack, install, and become the proof; exit with 2 if it does not come to that."""
    began = time.monotonic()
    asked, others = _arguments()
    folder = Path(__file__).resolve().parent
    try:
        contents = read_contents(folder)
        python = matching_python(contents["pythons"])
        if asked.device != "cpu":
            require_gpu()
        installed = ready(folder, contents, python)
    except Refused as refusal:
        _say(str(refusal))
        sys.exit(2)
    except OSError as error:
        _say(f"{error}: copy this folder to a disk where files may be written and run.")
        sys.exit(2)
    left = SECONDS - (time.monotonic() - began)
    options = ["--device", asked.device, "--out", str(asked.out or folder / "gpu.json"), "--within", f"{left:.0f}"]
    command = [str(installed), "-m", "tests.gpu.prove", *options, *others]
    os.execve(installed, command, _environment(installed, folder / "work" / "source"))  # noqa: S606 no shell is wanted


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser("run.sh", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="what must be used (%(default)s)")
    parser.add_argument("--out", type=Path, help="file for the JSON; gpu.json beside this script if omitted")
    return parser.parse_known_args()


def read_contents(folder: Path) -> dict:
    """What the packer wrote down: Python versions, bytes needed, and the SHA-256 of each piece."""
    try:
        return json.loads((folder / CONTENTS).read_text())
    except (OSError, ValueError):
        raise Refused(f"{CONTENTS} is missing or damaged: carry it here again.") from None


def matching_python(versions: list[str]) -> str:
    """An interpreter of one of these versions: the one that runs this, or one on PATH that runs at all."""
    own = "{}.{}".format(*sys.version_info[:2])
    if own in versions:
        return sys.executable
    for version in versions:
        program = shutil.which(f"python{version}")
        if program and _version(program) == version:
            return program
    raise Refused(
        f"This folder is for Python {' and '.join(versions)}, and here is {own}: install python{versions[0]}, "
        f'or pack again with make pack ARGS="--python {own}".'
    )


def _version(program: str) -> str:
    """What the program says; a wrapper of a version manager may be there without an interpreter."""
    ask = "import sys; print('{}.{}'.format(*sys.version_info[:2]))"
    return subprocess.run([program, "-c", ask], capture_output=True, text=True, check=False).stdout.strip()


def require_gpu() -> None:
    """Ask the driver for its GPUs."""
    count = ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
        why = f"the driver answers with error {status}" if status else "the driver knows none"
    except OSError:
        why = "NVIDIA's driver, libcuda.so.1, is not installed"
    if not count.value:
        raise Refused(f"No GPU was found: {why}. To try the script without a GPU: ./run.sh --device cpu")


def ready(folder: Path, contents: dict, python: str) -> Path:
    """The interpreter of the environment in work/, made unless it is there already."""
    work = folder / "work"
    installed, made_of = work / "venv" / "bin" / "python", work / "installed.json"
    if made_of.is_file() and made_of.read_text() == json.dumps(contents):
        return installed
    shutil.rmtree(work, ignore_errors=True)
    require_disk(folder, contents["bytes_needed"])
    _say("checking the pieces")
    require_pieces(folder, contents["pieces"])
    _say("unpacking")
    unpack([folder / name for name in contents["pieces"]], work)
    _say("installing")
    _install(work, python)
    made_of.write_text(json.dumps(contents))
    return installed


def require_disk(folder: Path, needed: int) -> None:
    """Compare what unpacking and installing take with what is free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Refused(
            f"Too little disk in {folder}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free. "
            "Make room, or carry the folder to another disk."
        )


def require_pieces(folder: Path, pieces: dict[str, str]) -> None:
    """Each piece is there and unchanged, and there is no other."""
    there = {path.name for path in folder.glob(f"{PIECE}*")}
    if additional := sorted(there - set(pieces)):
        raise Refused(f"{', '.join(additional)} does not belong here: delete it.")
    if missing := sorted(set(pieces) - there):
        raise Refused(f"{', '.join(missing)} is missing: carry it here.")
    for name, sha256 in pieces.items():
        if _sha256(folder / name) != sha256:
            raise Refused(f"{name} is damaged: carry it here again.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def unpack(pieces: list[Path], folder: Path) -> None:
    """Unpack the archive that these pieces are, one after the other."""
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(fileobj=io.BufferedReader(Joined(pieces)), mode="r|") as archive:
        archive.extractall(folder, **safe)  # noqa: S202 - each piece had its SHA-256


class Joined(io.RawIOBase):
    """Pieces, read as one file."""

    def __init__(self, pieces: list[Path]) -> None:
        self._blocks = _blocks(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self._rest = self._rest or next(self._blocks, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _blocks(pieces: list[Path]) -> Iterator[bytes]:
    for piece in pieces:
        with piece.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block


def _install(work: Path, python: str) -> None:
    """Make an environment with uv, from its wheel: the venv module of Debian's Python is a package apart."""
    wheel = next((work / "wheels").glob("uv-*.whl"), None)
    if not wheel:
        raise Refused("There is no uv among the wheels: pack again.")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/scripts/uv"))
        uv = work / "uv"
        uv.write_bytes(archive.read(name))
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    common = ["--quiet", "--offline", "--no-config", "--cache-dir", str(work / "cache")]
    _uv(str(uv), "venv", *common, "--no-python-downloads", "--python", python, str(work / "venv"))
    options = ["--no-index", "--find-links", str(work / "wheels"), "--require-hashes"]
    install = [str(uv), "pip", "install", *common, "--python", str(work / "venv" / "bin" / "python"), *options]
    pins = work / "source" / "requirements"
    _uv(*install, "-r", str(pins / "gpu.txt"))
    of_data = ["--no-deps", "--python-version", DATA_PYTHON, "--python-platform", "x86_64-manylinux_2_28"]
    _uv(*install, *of_data, "-r", str(pins / "speakers.txt"))


def _uv(*command: str) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise Refused(f"uv {command[1]} failed; delete work/ and try again, or pack again: {reason}")


def _environment(python: Path, source: Path) -> dict[str, str]:
    """CTranslate2 loads cuBLAS by name, so the loader must know the folder of its wheel."""
    libraries = [str(path) for path in python.parents[1].glob("lib/python3*/site-packages/nvidia/*/lib")]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = [*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return kept | {"LD_LIBRARY_PATH": os.pathsep.join(paths), "PYTHONPATH": str(source)}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
