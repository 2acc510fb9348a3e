"""The script that measures signals finds a planted one."""

import gzip
import importlib.util
import json

import numpy as np

from tests.folders import ROOT


def recording(seed: int) -> dict[str, list[list]]:
    """Sixty sentences of nine seconds; the audience laughs after those in the first person."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(60):
        funny = draw.random() < 0.3
        text = "I lost my keys and I blamed my dog." if funny else f"The committee published report number {i} today."
        rows.append([text, 9.0 * i, 9.0 * i + 9.0, int(funny)])
    return {"sentences": rows}


def test_a_planted_signal_is_measured(tmp_path):
    spec = importlib.util.spec_from_file_location("measure_signals", ROOT / "docs" / "measure_signals.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    data = tmp_path / "talks.jsonl.gz"
    with gzip.open(data, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(recording(seed)) + "\n" for seed in range(6))
    found = script.lifts(script._recordings(data, 5))
    assert found["first_person"] > 1.4
    assert found["numbers"] > 1.2  # funny lines have few, and the weight is negative
    assert 0.6 < found["positive"] < 1.4  # not planted
