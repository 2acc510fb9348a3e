"""Why runs ended, and which would fail again."""

import ast
import importlib
import inspect
from types import SimpleNamespace

import pytest
from prefect._internal.infrastructure_exit_codes import get_infrastructure_exit_info

from infra.errors import DiskFull, MachineError, ObjectMissing, ReportLost, StateFull
from infra.prefect.run_endings import reason, would_fail_again
from infra.prefect.runs import PrefectRuns
from tasks.core.errors import NoSpeech

KILLED = (
    "Process exited with status code: -9. Process exited due to a SIGKILL signal. Typically caused by the operating"
    " system terminating the process for exceeding memory limits, or by manual cancellation."
)


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        ("CRASHED", KILLED, "The process that ran the job was killed by SIGKILL."),
        (
            "CRASHED",
            "Flow run infrastructure exited with non-zero status code -15. Process exited due to",
            "The process that ran the job was killed by SIGTERM.",
        ),
        (
            "CRASHED",
            "Process exited with status code: 137. Process was killed, likely due to an out-of-memory (OOM) condition.",
            "The process that ran the job was killed by SIGKILL.",
        ),
        (
            "CRASHED",
            "Process exited with status code: 1. Process exited with a general error.",
            "The process that ran the job exited with status 1.",
        ),
        ("CRASHED", "The host was lost.", "The run ended as crashed: The host was lost."),
        ("FAILED", "no\nluck at all.", "The run ended as failed: no luck at all."),
        ("FAILED", "\x1b[2Jred\u202e\x9b1m", "The run ended as failed: [2Jred 1m."),
        ("COMPLETED", None, "The run ended as completed."),
        ("CANCELLED", None, "The run was cancelled in the Prefect UI."),
    ],
)
def test_the_reason_states_how_the_run_ended_without_guessing(state, message, expected):
    assert reason({"state_type": state, "state": {"message": message}}) == expected


@pytest.mark.parametrize("module", ["prefect.runner._flow_run_executor", "prefect.workers.base"])
@pytest.mark.parametrize(("status", "said"), [(-9, "was killed by SIGKILL."), (1, "exited with status 1.")])
def test_the_sentences_of_this_version_of_prefect_are_understood(module, status, said):
    """Prefect's workers report the exit status only in prose, which another version may word differently."""
    sentences = exit_sentences(importlib.import_module(module), status)
    assert sentences
    for sentence in sentences:
        assert (
            reason({"state_type": "CRASHED", "state": {"message": sentence}}) == f"The process that ran the job {said}"
        )


def exit_sentences(module, status):
    """Each sentence that a Prefect module makes of an exit status, made of this one."""
    values = {
        "exit_code": status,
        "result": SimpleNamespace(status_code=status),
        "info": get_infrastructure_exit_info(status),
    }
    return [
        eval(ast.unparse(part), values)  # noqa: S307 - Prefect's own expression, as installed
        for part in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(part, ast.JoinedStr) and "info.explanation" in ast.unparse(part)
    ]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ReportLost("The clips are published, but its record did not take it."), False),
        (StateFull("Redis takes no writes."), False),
        (ObjectMissing("no transcript"), False),
        (MachineError("ffmpeg was killed."), False),
        (DiskFull("No space is left."), True),
        (NoSpeech("No speech was found."), True),
        (ValueError("Flow run encountered an exception: ReportLost"), True),
    ],
)
def test_a_failed_run_would_fail_again_unless_its_error_is_transient(stack, monkeypatch, raised, expected):
    """On the state of a real run, as the Prefect server stores it."""
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    run_ids = []

    @flow(name="raises")
    def raises():
        from prefect.runtime import flow_run

        run_ids.append(str(flow_run.get_id()))
        raise raised

    with temporary_settings({PREFECT_API_URL: stack.settings.prefect_api_url}):
        raises(return_state=True)
    run = PrefectRuns(stack.settings.prefect_api_url, "raises/none").run(run_ids[0])
    assert run["state_type"] == "FAILED"
    assert would_fail_again(run) is expected
