"""Names, secrets and diagnoses of rented runs, without a server."""

import uuid
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from infra.nosana.assignment import deployment_name, deployment_number, known_secrets, run_id_of
from infra.nosana.diagnosis import Blame, Diagnosis, diagnose_unfinished_run
from infra.nosana.job_definition import without_secrets
from infra.nosana.models import Deployment, DeploymentState
from infra.settings import Settings

RUN = uuid.UUID("0198c0de-1111-7222-8333-444455556666")


def deployment_named(name):
    return Deployment(
        id="D" * 44, name=name, market="M" * 44, status=DeploymentState.RUNNING, created_at=datetime.now(UTC)
    )


def test_a_deployments_name_holds_its_run_and_number():
    deployment = deployment_named(deployment_name("kangklip-gpu-", RUN, 12))
    assert (run_id_of("kangklip-gpu-", deployment), deployment_number("kangklip-gpu-", deployment)) == (RUN, 12)


@pytest.mark.parametrize(
    "name", [f"kangklip-gpu-two-{RUN}-1", f"kangklip-gpu-{RUN}", f"kangklip-gpu-{RUN}-1-b", "kangklip-gpu-hello-1"]
)
def test_a_foreign_deployments_name_gives_no_run(name):
    assert (
        run_id_of("kangklip-gpu-", deployment_named(name)),
        deployment_number("kangklip-gpu-", deployment_named(name)),
    ) == (
        None,
        0,
    )


def test_passwords_in_addresses_and_every_list_entry_are_known_secrets():
    configured = Settings(
        redis_url=SecretStr("redis://:hunter2hunter2@db:6379/0"),
        callback_token=SecretStr("first-token,second-token"),
        api_keys=SecretStr("page:key-of-the-page,key-alone"),
    )
    secrets = {"hunter2hunter2", "first-token", "second-token", "key-of-the-page", "key-alone"}
    assert secrets <= set(known_secrets(configured))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("frame 12 of 300, 24.5 fps", "frame 12 of 300, 24.5 fps"),
        ("job kk_01HZXW5N3C9V8K7J6H5G4F3D2S started", "job kk_01HZXW5N3C9V8K7J6H5G4F3D2S started"),
        ("GRANT=eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln ok", "[hidden] ok"),
        ("Authorization: Bearer 4f9aB2c8D1e7F3a6B5c4D9e8", "Authorization: Bearer [hidden]"),
        ("https://r2.example/x?X-Amz-Signature=abc", "[hidden]"),
        ("said (my-own-secret)", "said [hidden]"),
    ],
)
def test_log_lines_lose_whatever_looks_like_a_secret(line, shown):
    assert without_secrets(line, ["my-own-secret", ""]) == shown


def test_a_container_that_exits_0_with_its_run_unfinished_has_failed():
    well = Diagnosis(status_code=0, summary="The container succeeded.", blame=Blame.CONTAINER, logs=("last",))
    before, during = diagnose_unfinished_run(well, has_begun=False), diagnose_unfinished_run(well, has_begun=True)
    assert (before.status_code, during.status_code) == (1, 1)
    assert "without running the flow" in before.message
    assert "NOSANA_WORKER_IMAGE" in before.resolution
    assert "exited before its flow ended" in during.message
    assert (before.is_loss, during.is_loss) == (False, True)
    assert before.logs == ("last",)


def test_a_container_that_exits_with_an_error_was_lost_only_if_its_flow_had_begun():
    """A flow that fails ends its run itself; before it begins, the container's own message says what to change."""
    failed = Diagnosis(status_code=3, summary="The container exited with status 3.", blame=Blame.CONTAINER)
    before, during = (diagnose_unfinished_run(failed, has_begun=begun) for begun in (False, True))
    assert (before.is_loss, during.is_loss) == (False, True)
    assert before.summary == during.summary == failed.summary


def test_the_hosts_diagnosis_of_a_failure_is_kept():
    failed = Diagnosis(status_code=124, summary="The job timed out.")
    assert diagnose_unfinished_run(failed, has_begun=True) == failed
    assert not failed.is_loss
