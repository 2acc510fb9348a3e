import json

import pytest
from pydantic import SecretStr

from infra.errors import ConfigError
from infra.granted import grant as grants
from infra.nosana.job_definition import COMMAND, GRANT_VARIABLE, SecretInDefinition, build, deployment_body
from infra.settings import Settings
from tests.nosana.double import MARKET

PLAIN = {
    "KANGKLIP_API_URL": "https://clips.example.org",
    "PREFECT__FLOW_RUN_ID": "0190d5e2-3f4a-7b6c-8d9e-0f1a2b3c4d5e",
    "JOB": "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R",
    "RENDER_RESOLUTION": "1080x1920",
    "ASR_MODEL": "/opt/kangklip/weights/faster-whisper-large-v3-turbo",
}


def built(**changes):
    return build(
        **({"image": "registry.example/kangklip-worker@sha256:" + "0a" * 32, "env": PLAIN, "vram": 8} | changes)
    )


def test_a_deployment_is_one_confidential_gpu_job():
    body = deployment_body("kangklip-1", str(MARKET["address"]), 90, built(cuda=["12.4"]))
    assert (body["confidential"], body["replicas"], body["timeout"], body["strategy"]) == (True, 1, 90, "SIMPLE")
    (operation,) = body["job_definition"]["ops"]
    assert operation["args"]["gpu"] is True
    assert operation["args"]["cmd"] == COMMAND
    assert operation["args"]["env"] == PLAIN
    requirements = {"required_vram": 8, "required_cuda": ["12.4"]}
    assert body["job_definition"]["meta"]["system_requirements"] == requirements


@pytest.mark.parametrize(
    "name",
    [
        "R2_SECRET_ACCESS_KEY",
        "R2_ACCESS_KEY_ID",
        "LLM_API_KEY",
        "CALLBACK_TOKEN",
        "DB_PASSWORD",
        "PREFECT_API_AUTH_STRING",
    ],
)
def test_a_variable_named_like_a_secret_is_refused(name):
    with pytest.raises(SecretInDefinition, match=name):
        built(env=PLAIN | {name: "x"})


@pytest.mark.parametrize(
    "value",
    [
        "redis://:hunter2@redis.example:6379/0",
        "https://user:pass@example.org/",
        "nos_abcdefghijk12345",
        "sk-proj-abcdefgh1234",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abc",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
        "-----BEGIN PRIVATE KEY-----",
        "https://b.example/x?X-Amz-Signature=00",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ],
)
def test_a_value_like_a_secret_is_refused_without_showing_it(value):
    with pytest.raises(SecretInDefinition) as refused:
        built(env=PLAIN | {"HINT": value})
    assert "HINT" in str(refused.value)
    assert value not in str(refused.value)


def test_a_known_secret_is_refused_in_any_variable():
    secret = SecretStr("plainword")
    for name in ("HINT", GRANT_VARIABLE):
        with pytest.raises(SecretInDefinition, match=name):
            built(env=PLAIN | {name: "a plainword in it"}, secrets=[secret])


def test_a_grant_is_allowed_in_its_own_variable_only():
    settings = Settings(grant_secret=SecretStr("s" * 32))
    named = {"job_id": PLAIN["JOB"], "run_id": PLAIN["PREFECT__FLOW_RUN_ID"], "attempt": 1, "session_seconds": 3600}
    grant = grants.sign(grants.Grant(**named, expires_at=grants.expiry_after(600)), settings)
    assert grant in json.dumps(built(env=PLAIN | {GRANT_VARIABLE: grant}).model_dump())
    with pytest.raises(SecretInDefinition):
        built(env=PLAIN | {"OTHER": grant})


@pytest.mark.parametrize(
    "wrong", [{"image": ""}, {"image": "two words"}, {"vram": 0}, {"env": {"A B": "c"}}, {"env": {"A": 1.5}}]
)
def test_a_malformed_definition_is_refused_with_a_reason(wrong):
    if wrong == {"env": {"A": 1.5}}:
        wrong = {"cuda": [12.4]}
    with pytest.raises(ConfigError, match="malformed"):
        built(**wrong)


@pytest.mark.parametrize("market", ["", "nvidia-3060", "0" * 44, "l" * 44])
def test_a_market_must_be_an_address(market):
    with pytest.raises(ConfigError, match="market"):
        deployment_body("name", market, 60, built())
