"""The pins are the same on every supported Python, and each Python finds a wheel for all of them."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import uv

from tests.folders import ROOT

PINS = sorted((ROOT / "requirements").glob("*.txt"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PYTHON_SPECIFIC = {"async-timeout", "httpx2-jsfetch", "pendulum", "tzdata", "whenever"}
"""Packages that Prefect and redis-py themselves require on some Pythons only, and httpx2 in a browser's."""


def pins(path: Path) -> list[tuple[str, str]]:
    """The name and environment marker of every pin."""
    return re.findall(r"^([a-z0-9.-]+)(?:\[[^\]]+\])?==[^ ;]+ ?;? ?(.*?) ?\\$", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_a_package_has_one_version_for_every_python(path):
    found = pins(path)
    assert len(found) > (0 if path.stem == "speakers" else 5)
    assert [name for name, count in Counter(name for name, _ in found).items() if count > 1] == []
    assert {name for name, marker in found if re.search(r"python_(full_)?version", marker)} <= PYTHON_SPECIFIC


@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_finds_a_wheel_for_every_pin(python, tmp_path):
    options = ["--quiet", "--python", sys.executable, "--python-version", python, "--only-binary", ":all:"]
    command = [uv.find_uv_bin(), "pip", "compile", *options, str(ROOT / "requirements" / "dev.txt")]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out.txt")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
