"""Create bodies that the service accepts, and bodies that it refuses.

The official validator checks the same definitions in test_kit.py.
"""

import copy

import pytest
from pydantic import ValidationError

from infra.nosana.job_definition import build, deployment_body
from tests.nosana.double import MARKET
from tests.nosana.format import CreateBody

RUN = {"type": "container/run", "id": "one", "args": {"image": "kangklip-worker"}}
GOOD = {"version": "0.1", "type": "container", "ops": [RUN]}
BODY = {"name": "n", "market": MARKET["address"], "replicas": 1, "timeout": 60, "strategy": "SIMPLE"}
KEYS = {"REGION": "auto", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
PROBE = {"type": "http", "path": "/", "method": "GET", "expected_status": 200, "continuous": False}
WAY = {"type": "api", "args": {}}


def with_args(**args):
    return GOOD | {"ops": [copy.deepcopy(RUN) | {"args": {"image": "i"} | args}]}


def with_run(**changes):
    return GOOD | {"ops": [RUN | changes]}


VALID_DEFINITIONS = [
    GOOD,
    GOOD | {"ops": []},
    with_run(id=""),
    with_args(cmd="echo hello"),
    with_args(cmd=["echo", "hello"]),
    with_args(entrypoint=["/bin/sh"], aliases=["other"], private=True),
    with_args(env={"NAME": "value"}, gpu=True, work_dir="/app"),
    with_args(volumes=[{"name": "v", "dest": "/v"}]),
    with_args(expose=8080),
    with_args(expose={"port": 80, "type": "web"}),
    with_args(expose=[8080, "%%ops.a.b%%", {"__spread__": "%%global.ports%%"}, {"port": 80, "health_checks": [PROBE]}]),
    with_args(expose={"port": 80, "health_checks": [PROBE | {"body": None, "headers": {"a": "b"}}]}),
    with_args(authentication={"docker": {"username": "u", "password": "p"}}),
    with_args(authentication={}),
    with_args(restart_policy="always"),
    with_args(restart_policy={"policy": "on-failure", "restart_tries": 2}),
    with_args(resources=["__remove-if-empty__", {"type": "HF", "target": "/m", "repo": "a/b"}]),
    with_args(resources=[{"type": "S3", "target": "/m", "bucket": "b", "IAM": KEYS, "allowWrite": True}]),
    with_args(resources=[{"type": "S3", "target": "/m", "buckets": [{"url": "u", "files": ["f"]}]}]),
    with_args(resources=[{"type": "Ollama", "model": "m"}]),
    with_run(results={"name": "^.*$", "other": {"regex": "x", "logType": ["stdout", "nodeerr"]}}),
    with_run(execution={"group": "g"}),
    with_run(execution={"depends_on": ["two"], "stop_if_dependent_stops": True}),
    GOOD | {"meta": {"trigger": "api", "system_requirements": {"required_vram": 8, "required_cuda": ["12.4"]}}},
    GOOD | {"meta": {"system_resources": {"required_vram": 8}, "note": ["a", 1]}},
    GOOD | {"global": {"env": {"A": "b"}, "gpu": True, "variables": {"x": "y"}}},
    GOOD | {"ops": [RUN, RUN | {"id": "two"}]},
    GOOD | {"ops": [{"type": "container/create-volume", "id": "v", "args": {"name": "v"}}]},
    GOOD | {"logistics": {"send": WAY, "receive": {"type": "api-listen", "args": {"endpoint": "e"}}}},
    GOOD | {"deployment_id": "d"},
]
INVALID_DEFINITIONS = [
    {},
    [],
    GOOD | {"version": "1.0"},
    GOOD | {"version": 0.1},
    GOOD | {"type": "vm"},
    GOOD | {"ops": None},
    GOOD | {"ops": {}},
    GOOD | {"ops": [RUN, RUN]},
    GOOD | {"ops": [{"type": "container/run", "id": "one"}]},
    GOOD | {"secrets": {}},
    GOOD | {"global": None},
    GOOD | {"global": {"memory": "8g"}},
    GOOD | {"meta": None},
    GOOD | {"meta": {"trigger": 1}},
    GOOD | {"meta": {"system_resources": {"required_cuda": ["12.4"]}}},
    GOOD | {"meta": {"system_requirements": {"required_vram": True}}},
    GOOD | {"meta": {"system_requirements": {"required_vram": {"least": 8}}}},
    GOOD | {"logistics": {"send": WAY}},
    GOOD | {"logistics": {"send": WAY, "receive": WAY | {"type": "mail"}}},
    with_run(id="with space"),
    with_run(id=1),
    with_run(type="container/stop"),
    with_run(timeout=60),
    with_run(execution={"stop_if_dependent_stops": True}),
    with_run(results={"name": {"regex": "x", "logType": ["stdlog"]}}),
    with_run(results={"name": {"regex": "x", "logType": ["stdout", "stdout"]}}),
    with_args(memory="8g"),
    with_args(shm_size=1),
    with_args(secrets={"A": "b"}),
    with_args(env={"N": 1}),
    with_args(env={"N": None}),
    with_args(env={"N": True}),
    with_args(env=["N=1"]),
    with_args(gpu="true"),
    with_args(gpu=1),
    with_args(gpu=None),
    with_args(cmd=[1]),
    with_args(cmd=None),
    with_args(image=None),
    with_args(volumes=[{"name": "v"}]),
    with_args(expose=True),
    with_args(expose="8080"),
    with_args(expose=[8080, "%%port%%"]),
    with_args(expose=[80, {"port": 80}]),
    with_args(expose=[{"__spread__": "ports"}]),
    with_args(expose={"port": "80"}),
    with_args(expose={"port": 80, "type": "tcp"}),
    with_args(expose={"port": 80, "health_checks": [PROBE | {"method": "HEAD"}]}),
    with_args(authentication={"registry": {}}),
    with_args(restart_policy="sometimes"),
    with_args(restart_policy={"policy": "always"}),
    with_args(resources=["remove"]),
    with_args(resources=[{"type": "S3", "target": "/m", "IAM": {"REGION": "auto"}}]),
    with_args(resources=[{"type": "GIT", "target": "/m", "repo": "a/b"}]),
]


@pytest.mark.parametrize("definition", VALID_DEFINITIONS)
def test_valid_definitions_are_accepted(definition):
    assert CreateBody.model_validate(BODY | {"job_definition": definition})


@pytest.mark.parametrize("definition", INVALID_DEFINITIONS)
def test_invalid_definitions_are_refused(definition):
    with pytest.raises(ValidationError):
        CreateBody.model_validate(BODY | {"job_definition": definition})


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 0},
        {"timeout": 0.5},
        {"timeout": "60"},
        {"timeout": None},
        {"strategy": "ONCE"},
        {"strategy": None},
        {"name": None},
        {"market": 7},
        {"confidential": "true"},
        {"confidential": None},
        {"autostart": 1},
        {"vault": "short"},
        {"vault": "V" * 44, "new_vault": True},
    ],
)
def test_invalid_bodies_are_refused(wrong):
    assert CreateBody.model_validate(BODY | {"job_definition": GOOD})
    with pytest.raises(ValidationError):
        CreateBody.model_validate(BODY | {"job_definition": GOOD} | wrong)


def test_the_definition_we_build_is_accepted():
    definition = build("kangklip-worker:1", {"RENDER_CRF": "20"}, vram=8, cuda=["12.4"])
    assert CreateBody.model_validate(deployment_body("name", str(MARKET["address"]), 60, definition))
