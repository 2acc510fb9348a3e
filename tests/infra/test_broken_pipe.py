"""A run survives the death of the process that reads its log."""

import subprocess
import sys
from pathlib import Path

from tests.folders import ROOT

RUN = """
import logging, sys
from pathlib import Path
from prefect.logging.handlers import PrefectConsoleHandler
from infra.broken_pipe import ignore_broken_pipe

if sys.argv[2] == "outlive":
    ignore_broken_pipe()
log = logging.getLogger("run")
log.addHandler(PrefectConsoleHandler())
print("begun", flush=True)
sys.stdin.read()
for number in range(3):
    log.warning("stage %s", number)
    print("said", number, flush=True)
Path(sys.argv[1]).write_text("done")
"""


def survives_its_reader(folder: Path, how: str) -> bool:
    """Whether the run completed."""
    end = folder / how
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(end), how],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while process.stdout.readline().strip() != b"begun":
        pass
    process.stdout.close()
    process.stdin.close()
    process.wait(60)
    return end.exists()


def test_a_run_outlives_the_worker_that_reads_its_log(tmp_path):
    assert not survives_its_reader(tmp_path, "as prefect has it")
    assert survives_its_reader(tmp_path, "outlive")
