"""Bodies of a create that the service takes, and bodies that it refuses."""

import copy

import pytest
from pydantic import ValidationError

from infra.nosana.job_definition import build, deployment_body
from tests.nosana.double import MARKET
from tests.nosana.format import CreateBody

RUN = {"type": "container/run", "id": "one", "args": {"image": "kangklip-worker"}}
GOOD = {"version": "0.1", "type": "container", "ops": [RUN]}
BODY = {"name": "n", "market": MARKET["address"], "replicas": 1, "timeout": 60, "strategy": "SIMPLE"}


def with_args(**args):
    return GOOD | {"ops": [copy.deepcopy(RUN) | {"args": {"image": "i"} | args}]}


TAKEN = [
    GOOD,
    with_args(cmd="echo hello"),
    with_args(cmd=["echo", "hello"]),
    with_args(env={"NAME": "value"}, gpu=True, work_dir="/app"),
    with_args(volumes=[{"name": "v", "dest": "/v"}]),
    with_args(expose=8080),
    with_args(expose={"port": 80, "type": "web"}),
    with_args(authentication={"docker": {"username": "u", "password": "p"}}),
    with_args(restart_policy={"policy": "on-failure", "restart_tries": 2}),
    GOOD | {"meta": {"trigger": "api", "system_requirements": {"required_vram": 8, "required_cuda": ["12.4"]}}},
    GOOD | {"global": {"env": {"A": "b"}, "gpu": True}},
    GOOD | {"ops": [RUN, RUN | {"id": "two"}]},
    GOOD | {"ops": [{"type": "container/create-volume", "id": "v", "args": {"name": "v"}}]},
    GOOD | {"logistics": {"send": {"type": "api", "args": {}}, "receive": {"type": "api", "args": {}}}},
]
REFUSED = [
    {},
    GOOD | {"version": "1.0"},
    GOOD | {"version": 0.1},
    GOOD | {"type": "vm"},
    GOOD | {"ops": None},
    GOOD | {"ops": {}},
    GOOD | {"ops": [RUN, RUN]},
    GOOD | {"ops": [RUN | {"id": "with space"}]},
    GOOD | {"ops": [RUN | {"type": "container/stop"}]},
    GOOD | {"ops": [{"type": "container/run", "id": "one"}]},
    GOOD | {"secrets": {}},
    GOOD | {"meta": None},
    GOOD | {"meta": {"system_requirements": {"required_vram": True}}},
    with_args(memory="8g"),
    with_args(shm_size=1),
    with_args(env={"N": 1}),
    with_args(env={"N": None}),
    with_args(env=["N=1"]),
    with_args(gpu="true"),
    with_args(cmd=[1]),
    with_args(image=None),
    with_args(volumes=[{"name": "v"}]),
    with_args(authentication={"registry": {}}),
    with_args(restart_policy="sometimes"),
]


@pytest.mark.parametrize("definition", TAKEN)
def test_takes(definition):
    assert CreateBody.model_validate(BODY | {"job_definition": definition})


@pytest.mark.parametrize("definition", REFUSED)
def test_refuses(definition):
    with pytest.raises(ValidationError):
        CreateBody.model_validate(BODY | {"job_definition": definition})


@pytest.mark.parametrize(
    "wrong", [{"replicas": 0}, {"timeout": 0.5}, {"timeout": "60"}, {"strategy": "ONCE"}, {"name": None}, {"market": 7}]
)
def test_refuses_a_body(wrong):
    with pytest.raises(ValidationError):
        CreateBody.model_validate(BODY | {"job_definition": GOOD} | wrong)


def test_what_we_build_is_taken():
    definition = build("kangklip-worker:1", {"RENDER_CRF": "20"}, vram=8, cuda=["12.4"])
    assert CreateBody.model_validate(deployment_body("name", str(MARKET["address"]), 60, definition))
