"""The choice finds more of what people picked than chance, where such recordings are at hand."""

import re
import subprocess
import sys

import pytest

from tests.folders import ROOT, SHARED

DATA = SHARED / "highlights"


@pytest.mark.soak
@pytest.mark.skipif(not DATA.exists(), reason="recordings with what people picked are no part of the repository")
@pytest.mark.parametrize(("name", "least"), [("talks", 2.0), ("podcasts", 1.4)])
def test_the_choice_is_better_than_chance_on_recordings_that_were_not_learned_from(tmp_path, name, least):
    learn, score = ROOT / "docs" / "learn_weights.py", DATA / "score.py"
    subprocess.run([sys.executable, learn, "--split", DATA / f"{name}.jsonl.gz", tmp_path], check=True, cwd=ROOT)
    command = [sys.executable, score, tmp_path / f"held-{name}.jsonl.gz", ROOT / "docs" / "choose_windows.py"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    found = re.search(r"lift ([\d.]+)", said)
    assert found, said
    assert float(found[1]) > least, said
