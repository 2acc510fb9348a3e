"""Facts that all parts of the code share are defined in one place."""

import pytest

from tests.folders import ROOT

SOURCES = [path for folder in ("deployments", "flows", "infra", "tasks") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ("0-9A-HJKMNP-TV-Z", ["infra/jobs/ids.py"]),
        # Stages and engines may not import infra, and infra imports no tasks.
        ("file_digest(", ["infra/digests.py", "tasks/engines/digests.py"]),
    ],
    ids=["a job id's form", "a file's SHA-256"],
)
def test_it_is_defined_once(words, places):
    found = [path.relative_to(ROOT).as_posix() for path in SOURCES if words in path.read_text()]
    assert sorted(found) == places
