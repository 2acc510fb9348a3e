"""Our folder in the shared temporary directory, where another user may have planted one."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from tasks.engines.cache_folder import private_folder
from tasks.engines.captions import fonts
from tasks.engines.ffmpeg import binary_dir


@pytest.fixture
def expected_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The expected path of the folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"kangklip-{os.getuid()}"


def test_the_folder_is_private_and_reused(expected_folder: Path):
    assert private_folder() == private_folder() == expected_folder
    assert stat.S_IMODE(expected_folder.stat().st_mode) == 0o700


def plant_link(name: Path) -> None:
    elsewhere = name.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    name.symlink_to(elsewhere)


def plant_open_folder(name: Path) -> None:
    name.mkdir()
    name.chmod(0o777)


def plant_foreign_folder(name: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    name.mkdir(mode=0o700)
    os.chown(name, 65534, 65534)


@pytest.mark.parametrize("plant", [plant_link, plant_open_folder, plant_foreign_folder, Path.touch])
def test_a_planted_folder_is_not_used(expected_folder: Path, plant, caplog: pytest.LogCaptureFixture):
    plant(expected_folder)
    folder = private_folder()
    assert folder != expected_folder
    assert folder == private_folder()
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    assert str(expected_folder) in caplog.text
    for used in (binary_dir(), fonts.choose_font(["a"]).folder):
        assert used.is_relative_to(folder)
