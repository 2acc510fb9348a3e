"""Parts of a machine that some tests need: without them a test is skipped, or fails where they are required."""

import os
from typing import NoReturn

import pytest


def missing(name: str, reason: str) -> NoReturn:
    """Skip the test, or fail it if KANGKLIP_REQUIRE_{name} is 1, as in .ci/run."""
    if os.environ.get(f"KANGKLIP_REQUIRE_{name}") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
