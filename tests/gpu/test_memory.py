"""What nvidia-smi says is read as it writes it; a stand-in for it answers here."""

import time
from pathlib import Path

import pytest

from tests.gpu.memory import GpuMemory


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\ncase "$1" in *used*) printf "512\\n1024\\n";; *) echo "A card, 8192, 555.1";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_the_memory_of_all_gpus_is_added(two_gpus: None):
    assert GpuMemory.describe() == ["A card, 8192, 555.1"]
    with GpuMemory() as memory:
        time.sleep(0.1)
    assert {mb for _, mb in memory.samples} == {1536.0}


def test_without_a_driver_there_is_nothing_to_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (GpuMemory.describe(), GpuMemory().measure()) == ([], 0.0)
