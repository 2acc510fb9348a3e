"""POST /api/callback/nosana, line by line."""

import pytest

from deployments.api.callback import read_report
from infra.states import JobState, Stage
from tests.deployments.api.conftest import NEXT_TOKEN, TOKEN


def test_both_tokens_are_valid(api, job_id):
    for token in (TOKEN, NEXT_TOKEN):
        answer = api.callback(job_id, "RUNNING", token=token)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
