import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tasks.core.errors import UnreadableMedia
from tasks.engines.speakers.torch_file import tensors

NUMBERS = np.arange(24, dtype=np.float32)


class Stored:
    """Refers to numbers in a file of their own, as PyTorch does."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], kind: str = "Float") -> None:
        self.parts = Stored(kind), offset, shape, strides, False, OrderedDict()

    def __reduce__(self) -> tuple[object, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


class Runs:
    """Creates a file when a reader does what it asks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        if not isinstance(obj, Stored):
            return None
        return "storage", getattr(sys.modules["torch"], f"{obj.kind}Storage"), "0", "cpu", len(NUMBERS)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes what is given as PyTorch would; there is no PyTorch when it is read."""

    def write(content: object) -> Path:
        torch, utils = ModuleType("torch"), ModuleType("torch._utils")
        for kind in ("Float", "Half"):
            setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
        exec("def _rebuild_tensor_v2(): ...", utils.__dict__)  # noqa: S102 - a function that pickles by this name
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            patch.setitem(sys.modules, "torch._utils", utils)
            pickled = io.BytesIO()
            Pickler(pickled, protocol=2).dump(content)
        path = tmp_path / "model.bin"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", pickled.getvalue())
            file.writestr("archive/data/0", NUMBERS.tobytes())
        return path

    return write


@pytest.mark.parametrize("wrapped", [False, True])
def test_tensors_are_read_with_their_shapes_offsets_and_strides(checkpoint, wrapped: bool):
    content = OrderedDict(
        whole=Tensor(0, (4, 6), (6, 1)), part=Tensor(6, (2, 3), (6, 1)), turned=Tensor(0, (6, 4), (1, 6)), epoch=7
    )
    found = tensors(checkpoint({"state_dict": content, "other": Tensor(0, (1,), (1,))} if wrapped else content))
    table = NUMBERS.reshape(4, 6)
    assert sorted(found) == ["part", "turned", "whole"]
    assert np.array_equal(found["whole"], table)
    assert np.array_equal(found["part"], table[1:3, :3])
    assert np.array_equal(found["turned"], table.T)


def test_nothing_that_a_file_asks_for_is_run(checkpoint, tmp_path: Path):
    path = checkpoint(OrderedDict(whole=Tensor(0, (24,), (1,)), other=Runs(tmp_path / "ran")))
    assert list(tensors(path)) == ["whole"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"no archive",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"data.pkl", b"data.txt"),
        lambda content: content.replace(b"archive/data/0", b"archive/data/1"),
    ],
    ids=["no archive", "cut short", "no index", "no numbers"],
)
def test_a_damaged_file_is_no_checkpoint(checkpoint, damage):
    path = checkpoint(OrderedDict(whole=Tensor(0, (24,), (1,))))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnreadableMedia, match=r"model\.bin is not a checkpoint"):
        tensors(path)


def test_numbers_of_another_type_are_refused(checkpoint):
    with pytest.raises(UnreadableMedia):
        tensors(checkpoint(OrderedDict(whole=Tensor(0, (24,), (1,), "Half"))))
