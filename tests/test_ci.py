"""`.ci/run` on a machine with four Pythons, where make only says what it would do."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.folders import ROOT

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PIPELINE = "tests/core tests/engines tests/stages tests/flows"
PYTHON = """#!/bin/sh
exec {python} -c 'import sys
sys.version_info, sys.executable = ({major}, {minor}, 0), "{path}"
exec(sys.argv[1])' "$2"
"""


def executable(path, text="#!/bin/sh\n"):
    path.write_text(text)
    path.chmod(0o755)


def said_on(folder, versions):
    """What `.ci/run` prints with these Pythons, by version."""
    programs, checkout = folder / "bin", folder / "checkout"
    programs.mkdir()
    shutil.copytree(ROOT / ".ci", checkout / ".ci")  # apart, since environments may exist here
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (checkout / name).symlink_to(ROOT / name)
    for program in ("chromium", "docker-compose", *(f"python{version}" for version in VERSIONS), "python3"):
        executable(programs / program, "#!/bin/sh\nexit 1\n")  # hides the machine's own
    for version in versions:
        path, (major, minor) = programs / f"python{version}", version.split(".")
        executable(path, PYTHON.format(python=sys.executable, major=major, minor=minor, path=path))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "KANGKLIP", "MFLAGS"))}
    environment = kept | {"PATH": f"{programs}:{os.environ['PATH']}", "PYENV_ROOT": str(folder), "MAKEFLAGS": "n"}
    done = subprocess.run(
        [checkout / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if not versions:
        assert done.returncode == 1
        return {"": done.stdout}
    assert done.returncode == 0, done.stderr
    return dict(part.split("\n", 1) for part in done.stdout.split("== Python ")[1:])


def test_every_python_has_its_own_environment_the_demo_and_tests(tmp_path):
    commands = said_on(tmp_path, VERSIONS)
    assert tuple(commands) == VERSIONS
    for version, text in commands.items():
        assert f"python{version} -m venv build/python{version}" in text
        demo, tests = (text.index(f"build/python{version}/bin/{name}") for name in ("kangklip demo", "pytest "))
        assert demo < tests
        command, *more = [line for line in text.splitlines() if "/pytest " in line]
        assert '-m "not soak and not long"' in command
        assert [line for line in more if '-m "long and not soak"' in line] == more
        assert len(more) == (version == VERSIONS[-1])
        assert command.endswith(PIPELINE) == (version not in (VERSIONS[0], VERSIONS[-1]))
        assert ("/ruff check" in text) == ("/basedpyright" in text) == ("/lint-imports" in text) == (version == "3.11")


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_a_single_python_runs_everything(tmp_path, version):
    ((only, text),) = said_on(tmp_path, [version]).items()
    assert only == version
    assert "/ruff check" in text
    assert PIPELINE not in text
    assert '-m "not soak and not long"' in text
    assert '-m "long and not soak"' in text


def test_without_a_python_it_fails(tmp_path):
    assert said_on(tmp_path, [])[""].endswith("No Python 3.11 or later was found.\n")
