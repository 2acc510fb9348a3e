"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what the file asks for."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import UnreadableMedia

_TYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}

Tensors = dict[str, NDArray[np.float32]]


def tensors(path: Path) -> Tensors:
    """The floating-point tensors of a checkpoint by their names, in a `state_dict` or at the top.

    Raises:
        UnreadableMedia: it is no checkpoint, or has types of numbers that we do not read.
    """
    try:
        with zipfile.ZipFile(path) as file:
            (index,) = (name for name in file.namelist() if name.endswith("/data.pkl"))
            with file.open(index) as pickled:
                content = _Reader(pickled, lambda key: file.read(f"{index.removesuffix('.pkl')}/{key}")).load()
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
    ) as error:
        raise UnreadableMedia(f"{path.name} is not a checkpoint that can be read.") from error
    found = content.get("state_dict", content)
    return {name: value for name, value in found.items() if getattr(value, "dtype", None) == np.float32}


class _Ignored:
    """Stands in for everything of the file that is neither a tensor nor a dictionary."""

    def __init__(self, *_: object) -> None: ...

    def __call__(self, *_: object) -> "_Ignored":
        return self

    def __setstate__(self, _: object) -> None: ...


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, read: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._read = read

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        return global_name if global_name.endswith("Storage") else _Ignored

    def persistent_load(self, pid: Any) -> Any:
        return pid

    def _tensor(self, stored: tuple[str, str, str], offset: int, shape: Any, strides: Any, *_: object) -> Any:
        numbers = np.frombuffer(self._read(stored[2]), _TYPES[stored[1]])[offset:]
        steps = [stride * numbers.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(numbers, shape, steps).copy()
