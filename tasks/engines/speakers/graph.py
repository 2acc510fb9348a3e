"""Builds a network for ONNX Runtime, operation by operation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

OPSET, IR = 17, 9


class NetworkError(RuntimeError):
    """A network could not be run."""


class Graph:
    """Operations in the order in which they are added; each returns the name of its result."""

    def __init__(self, name: str, shape: Sequence[int | str]) -> None:
        self._input = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation of ONNX; the name of its first result."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def session(self, result: str, threads: int) -> "Network":
        """The network that computes `result`, on as many threads."""
        output = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "network", [self._input], [output], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return Network(onnxruntime.InferenceSession(model.SerializeToString(), options), self._input.name)


class Network:
    """A network with one input and one result."""

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._session, self._name = session, name

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The result for these values.

        Raises:
            NetworkError: ONNX Runtime failed, for example for want of memory.
        """
        try:
            (result,) = self._session.run(None, {self._name: values})
        except (Fail, RuntimeException) as error:
            raise NetworkError(str(error)) from error
        return np.asarray(result)
