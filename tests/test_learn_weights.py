"""The script that learns weights finds what was planted, in the half that it may learn from."""

import gzip
import importlib.util
import json
import sys

import numpy as np
import pytest

from tasks.core.choice.weights import Learned
from tests.folders import ROOT


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        spec = importlib.util.spec_from_file_location("learn_weights", ROOT / "docs" / "learn_weights.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return module


def recording(seed: int, liked: str, plain: str) -> list[list]:
    """Sixty sentences of nine seconds; people pick the liked ones."""
    draw = np.random.default_rng(seed)
    picked = draw.random(60) < 0.3
    return [[liked if p else f"{plain} {i} today.", 9.0 * i, 9.0 * i + 9.0, int(p)] for i, p in enumerate(picked)]


def measured(script, liked, plain):
    return [script.measured(recording(seed, liked, plain)) for seed in range(6)]


def test_each_kind_learns_what_was_planted_in_it(script):
    content = script.learn(
        {
            "talk": measured(script, "I lost my keys and I blamed my dog.", "The committee published report number"),
            "conversation": measured(
                script, "You need your customers to trust you.", "We hired another colleague on day"
            ),
        }
    )
    learned = Learned.model_validate(content)
    assert learned.weights["first_person"]["talk"] > 0.1 > learned.weights["first_person"]["conversation"]
    assert learned.weights["second_person"]["conversation"] > 0.1
    assert learned.weights["numbers"]["talk"] < -0.05
    assert learned.weights["early"]["lesson"] == learned.weights["pauses"]["stream"] == 0
    assert "cross-validation" in learned.about["talk"]


def test_position_never_outweighs_all_else(script):
    recordings = [script.measured(rows) for rows in _only_early()]
    weights = script.fitted(recordings, [True] * len(script.LEARNED))
    place = np.array([name in script.PLACE for name in script.LEARNED])
    parts = [np.mean([(r.signals[:, k] @ weights[k]).std() for r in recordings]) for k in (place, ~place)]
    assert 0 < parts[0] <= 1.001 * script.MOST_PLACE * parts[1]


def _only_early() -> list[list[list]]:
    draw = np.random.default_rng(3)
    words = ["sea", "boat", "rain", "wind", "bread", "stone", "lamp", "door", "horse", "field"]
    return [
        [
            [f"The {draw.choice(words)} and the {draw.choice(words)}.", 9.0 * i, 9.0 * i + 9.0, int(i < 12)]
            for i in range(60)
        ]
        for _ in range(4)
    ]


def test_the_held_back_half_is_chosen_by_the_id(script, tmp_path):
    ids = [f"recording-{i}" for i in range(40)]
    data = tmp_path / "talks.jsonl.gz"
    with gzip.open(data, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"id": name, "sentences": []}) + "\n" for name in ids)
    script.split(data, tmp_path)
    halves = [{name for name, _ in script.read(tmp_path / f"{half}-talks.jsonl.gz")} for half in ("learn", "held")]
    assert halves[0] | halves[1] == set(ids)
    assert not halves[0] & halves[1]
    assert all(script.is_held_back(name) for name in halves[1])
    assert 10 < len(halves[1]) < 30
