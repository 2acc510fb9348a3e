"""Tells which of up to three voices speak at each moment of ten seconds: pyannote's segmentation-3.0 (MIT).

The network is PyanNet: band-pass filters (SincNet), three pooled convolutions, four LSTM layers in both directions and
three linear layers (Bredin, "pyannote.audio 2.1", 2023; Plaquet and Bredin, "Powerset multi-class cross entropy loss",
2023).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.speakers.windows import Classes
from tasks.core.speech.asr import SAMPLE_RATE, Samples
from tasks.engines.speakers.graph import Graph, Network
from tasks.engines.speakers.torch_file import Tensors, tensors

_LEAK = 0.01
_LOWEST_HERTZ = _NARROWEST_HERTZ = 50.0
_FILTERS = "sincnet.conv1d.0.filterbank."


class Segmentation:
    """The network, loaded once. `weights` is pyannote's `pytorch_model.bin`."""

    def __init__(self, weights: Path, threads: int) -> None:
        self._network = _network(tensors(weights), threads)

    def __call__(self, windows: Samples) -> Classes:
        """Probabilities of the classes in each frame, for windows of shape (windows, samples)."""
        return self._network(windows[:, None])


def _network(weights: Tensors, threads: int) -> Network:
    graph = Graph("sound", ["windows", 1, "samples"])
    value = _normalised(graph, "sound", weights, "wav_norm1d")
    for layer in range(3):
        if layer:
            value = _convolved(graph, value, weights, f"sincnet.conv1d.{layer}")
        else:
            value = graph.add("Abs", graph.add("Conv", value, graph.constant(_band_passes(weights)), strides=[10]))
        value = graph.add("MaxPool", value, kernel_shape=[3], strides=[3])
        value = graph.add("LeakyRelu", _normalised(graph, value, weights, f"norm1d.{layer}"), alpha=_LEAK)
    value = graph.add("Transpose", value, perm=[2, 0, 1])
    for layer in range(4):
        value = _recurrent(graph, value, weights, layer)
    for name in ("linear.0", "linear.1"):
        value = graph.add("LeakyRelu", _linear(graph, value, weights, name), alpha=_LEAK)
    classes = graph.add("Softmax", _linear(graph, value, weights, "classifier"), axis=-1)
    return graph.session(graph.add("Transpose", classes, perm=[1, 0, 2]), threads)


def _normalised(graph: Graph, value: str, weights: Tensors, name: str) -> str:
    scale, shift = (graph.constant(weights[f"sincnet.{name}.{part}"]) for part in ("weight", "bias"))
    return graph.add("InstanceNormalization", value, scale, shift, epsilon=1e-5)


def _convolved(graph: Graph, value: str, weights: Tensors, name: str) -> str:
    return graph.add("Conv", value, *(graph.constant(weights[f"{name}.{part}"]) for part in ("weight", "bias")))


def _linear(graph: Graph, value: str, weights: Tensors, name: str) -> str:
    product = graph.add("MatMul", value, graph.constant(weights[f"{name}.weight"].T))
    return graph.add("Add", product, graph.constant(weights[f"{name}.bias"]))


def _recurrent(graph: Graph, value: str, weights: Tensors, layer: int) -> str:
    """An LSTM layer in both directions, whose results stand side by side."""
    both = [f"l{layer}", f"l{layer}_reverse"]
    inputs, states = (np.stack([_gates(weights[f"lstm.weight_{kind}_{one}"]) for one in both]) for kind in ("ih", "hh"))
    biases = np.stack(
        [np.concatenate([_gates(weights[f"lstm.bias_{kind}_{one}"]) for kind in ("ih", "hh")]) for one in both]
    )
    constants = (graph.constant(part) for part in (inputs, states, biases))
    value = graph.add("LSTM", value, *constants, hidden_size=states.shape[2], direction="bidirectional")
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3])
    return graph.add("Reshape", value, graph.constant(np.array([0, 0, -1])))


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows in PyTorch's order of gates (input, forget, cell, output) in ONNX's (input, output, forget, cell)."""
    into, forget, cell, out = np.split(rows, 4)
    return np.concatenate([into, out, forget, cell])


def _band_passes(weights: Tensors) -> NDArray[np.float32]:
    """SincNet's filters, shape (80, 1, 251): even ones, then odd ones (Ravanelli and Bengio, 2018)."""
    low, band, window, steps = (
        weights[_FILTERS + name].astype(np.float64) for name in ("low_hz_", "band_hz_", "window_", "n_")
    )
    low = _LOWEST_HERTZ + np.abs(low)
    high = np.clip(low + _NARROWEST_HERTZ + np.abs(band), _LOWEST_HERTZ, SAMPLE_RATE / 2)
    width = high - low
    even = (np.sin(high @ steps) - np.sin(low @ steps)) / (steps / 2) * window
    odd = (np.cos(low @ steps) - np.cos(high @ steps)) / (steps / 2) * window
    filters = [
        np.concatenate([even, 2 * width, even[:, ::-1]], axis=1),
        np.concatenate([odd, 0 * width, -odd[:, ::-1]], axis=1),
    ]
    return np.concatenate([one / (2 * width) for one in filters])[:, None].astype(np.float32)
