"""Turns a few seconds of a voice into a vector that is alike for the same speaker: CAM++ of 3D-Speaker (Apache-2.0).

The network: two-dimensional convolutions over the spectrum, then three blocks of densely connected convolutions in
time, each weighed by what is around it, then mean and deviation over time (Wang et al., "CAM++", 2023).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from tasks.core.speech.asr import Samples
from tasks.engines.speakers.graph import Graph, Network
from tasks.engines.speakers.spectrum import BANDS, spectrum
from tasks.engines.speakers.torch_file import Tensors, tensors

_BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers of each block, and how far apart the steps are that a layer sees."""
_AROUND = 100
"""Steps that make up the surroundings of a step."""
_AT_ONCE = 8
"""Voices that go through the network together: ten take 200 MB."""
_PADDED = {"pads": [1, 1, 1, 1]}


class VoicePrint:
    """The network, loaded once. `weights` is 3D-Speaker's `campplus_cn_en_common.pt`."""

    def __init__(self, weights: Path, threads: int) -> None:
        self._network = _Layers(tensors(weights)).network(threads)

    def __call__(self, voices: Sequence[Samples]) -> list[NDArray[np.float32]]:
        """The unit vector of each voice of at least half a second. Those of the same length cost less together."""
        found: dict[int, NDArray[np.float32]] = {}
        for length in {len(voice) for voice in voices}:
            alike = [place for place, voice in enumerate(voices) if len(voice) == length]
            for first in range(0, len(alike), _AT_ONCE):
                places = alike[first : first + _AT_ONCE]
                bands = np.stack([spectrum(voices[place]) for place in places])
                vectors = self._network(bands - bands.mean(axis=1, keepdims=True))[:, :, 0]
                found |= zip(places, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True)
        return [found[place] for place in range(len(voices))]


class _Layers:
    """Adds layers, which find their weights by name."""

    def __init__(self, weights: Tensors) -> None:
        self._weights = weights
        self._graph = Graph("spectrum", ["voices", "steps", BANDS])
        self._add = self._graph.add

    def network(self, threads: int) -> Network:
        value = self._add("Transpose", "spectrum", perm=[0, 2, 1])
        value = self._over_spectrum(self._add("Unsqueeze", value, self._numbers(1)))
        value = self._convolved(value, "xvector.tdnn.linear", strides=[2], pads=[2, 2])
        value = self._active(value, "xvector.tdnn.nonlinear.batchnorm")
        for block, (layers, apart) in enumerate(_BLOCKS, start=1):
            for layer in range(1, layers + 1):
                value = self._add(
                    "Concat", value, self._dense(value, f"xvector.block{block}.tdnnd{layer}", apart), axis=1
                )
            transit = f"xvector.transit{block}"
            value = self._convolved(self._active(value, f"{transit}.nonlinear.batchnorm"), f"{transit}.linear")
        value = self._over_time(self._active(value, "xvector.out_nonlinear.batchnorm"))
        value = self._convolved(value, "xvector.dense.linear")
        return self._graph.session(self._normalised(value, "xvector.dense.nonlinear.batchnorm"), threads)

    def _over_spectrum(self, value: str) -> str:
        """Two-dimensional convolutions; their channels and what is left of the bands are one axis of the result."""
        value = self._active(self._convolved(value, "head.conv1", **_PADDED), "head.bn1")
        for name in ("head.layer1.0", "head.layer1.1", "head.layer2.0", "head.layer2.1"):
            strides = [2, 1] if name.endswith("0") else [1, 1]
            inner = self._active(self._convolved(value, f"{name}.conv1", strides=strides, **_PADDED), f"{name}.bn1")
            inner = self._normalised(self._convolved(inner, f"{name}.conv2", **_PADDED), f"{name}.bn2")
            if f"{name}.shortcut.0.weight" in self._weights:
                value = self._convolved(value, f"{name}.shortcut.0", strides=strides)
                value = self._normalised(value, f"{name}.shortcut.1")
            value = self._add("Relu", self._add("Add", inner, value))
        value = self._active(self._convolved(value, "head.conv2", strides=[2, 1], **_PADDED), "head.bn2")
        return self._add("Reshape", value, self._numbers(0, BANDS // 8 * len(self._weights["head.bn2.bias"]), -1))

    def _dense(self, value: str, name: str, apart: int) -> str:
        """One layer of a block: what it sees in time, weighed by the whole and by the surroundings of each step."""
        inner = self._convolved(self._active(value, f"{name}.nonlinear1.batchnorm"), f"{name}.linear1")
        inner = self._active(inner, f"{name}.nonlinear2.batchnorm")
        near = self._convolved(inner, f"{name}.cam_layer.linear_local", dilations=[apart], pads=[apart, apart])
        whole = self._add("ReduceMean", inner, axes=[-1], keepdims=1)
        context = self._add("Add", whole, self._surroundings(inner))
        context = self._add("Relu", self._convolved(context, f"{name}.cam_layer.linear1"))
        weight = self._add("Sigmoid", self._convolved(context, f"{name}.cam_layer.linear2"))
        return self._add("Mul", near, weight)

    def _surroundings(self, value: str) -> str:
        """The mean of every _AROUND steps, repeated for each of them."""
        kind = {"kernel_shape": [_AROUND], "strides": [_AROUND], "ceil_mode": 1, "count_include_pad": 0}
        means = self._add("Unsqueeze", self._add("AveragePool", value, **kind), self._numbers(3))
        repeated = self._add("Expand", means, self._numbers(1, 1, 1, _AROUND))
        joined = self._add("Reshape", repeated, self._numbers(0, 0, -1))
        return self._add("Slice", joined, self._numbers(0), self._length(value), self._numbers(2))

    def _over_time(self, value: str) -> str:
        """Mean and deviation over time."""
        mean = self._add("ReduceMean", value, axes=[2], keepdims=1)
        apart = self._add("Sub", value, mean)
        total = self._add("ReduceSum", self._add("Mul", apart, apart), self._numbers(2), keepdims=1)
        count = self._add("Cast", self._add("Sub", self._length(value), self._numbers(1)), to=TensorProto.FLOAT)
        return self._add("Concat", mean, self._add("Sqrt", self._add("Div", total, count)), axis=1)

    def _length(self, value: str) -> str:
        return self._add("Slice", self._add("Shape", value), self._numbers(2), self._numbers(3))

    def _numbers(self, *values: int) -> str:
        return self._graph.constant(np.array(values))

    def _convolved(self, value: str, name: str, **attributes: Any) -> str:
        parts = [self._weights[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in self._weights]
        return self._add("Conv", value, *map(self._graph.constant, parts), **attributes)

    def _active(self, value: str, name: str) -> str:
        return self._add("Relu", self._normalised(value, name))

    def _normalised(self, value: str, name: str) -> str:
        mean, variance = (self._weights[f"{name}.running_{part}"] for part in ("mean", "var"))
        scale, shift = self._weights.get(f"{name}.weight", mean**0), self._weights.get(f"{name}.bias", 0 * mean)
        return self._add("BatchNormalization", value, *map(self._graph.constant, (scale, shift, mean, variance)))
