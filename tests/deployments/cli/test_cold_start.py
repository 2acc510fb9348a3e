"""A new process imports little before it answers, so that help and refusals are immediate."""

import json
import os
import subprocess
import sys

import pytest

from tests.folders import ROOT

ENGINES = {"av", "cv2", "faster_whisper", "litellm", "numpy", "prefect", "yt_dlp"}
SERVERS = {"boto3", "fastapi", "httpx", "redis", "sqlalchemy", "uvicorn"}
TELL = "import json, os, sys; json.dump([{}, sorted(sys.modules)], open(os.environ['TOLD'], 'w'))"
COMMAND = f"""
from deployments.cli.main import main
status = 0
try:
    main()
except SystemExit as end:
    status = end.code
{TELL.format("status")}
"""


def run_fresh(folder, code, *arguments):
    """Run `code` in a new process; returns the status and modules that `TELL` wrote at its end."""
    report = folder / "told.json"
    environment = os.environ | {"TOLD": str(report), "KANGKLIP_DATA_DIR": str(folder / "data")}
    subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, check=True, timeout=60
    )
    status, imported = json.loads(report.read_text())
    return status, set(imported)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["clip", "--help"], 0),
        (["clip", "no-such-file.mp4"], 2),
        (["clip", "ftp://example.org/talk.mp4"], 2),
        (["clip", "no-such-file.mp4", "--count", "9"], 2),
        (["status", "kk_nonsense"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_help_and_refusals_import_no_engine_and_no_client(tmp_path, arguments, status):
    ended, imported = run_fresh(tmp_path, COMMAND, *arguments)
    assert ended == status
    assert "deployments.cli.main" in imported
    assert (ENGINES | SERVERS) & imported == set()


def test_the_api_starts_without_any_engine(tmp_path):
    _, imported = run_fresh(tmp_path, f"import deployments.api.app; {TELL.format(0)}")
    assert "deployments.api.app" in imported
    assert ENGINES & imported == set()
