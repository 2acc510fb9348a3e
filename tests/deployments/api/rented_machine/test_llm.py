"""The LLM proxy for rented machines: the flow's own engine works through it, and requests are filtered and counted."""

import json
import logging
import threading
import time

import pytest
from pydantic import SecretStr

from deployments.api.rented_machine.llm import ANSWER_TOKENS, MAX_MESSAGE_CHARS, llm_endpoint, llm_model_for_granted
from infra.jobs.record import Report
from infra.settings import Settings
from infra.states import JobState
from tasks.core.choice.prompting import Offer
from tasks.engines.choice.llm import GEMINI_HOST, Llm, LlmFailed, LlmOptions
from tests.llm_server import GOOD, KEY, serving

PATH = "/api/worker/llm/chat/completions"
CALLS = 3
OFFERS = [Offer(id="w0", seconds=40, text="A kitten hid."), Offer(id="w1", seconds=40, text="A backup is kept.")]
CHAT = {"model": "gpt-17", "messages": [{"role": "user", "content": "Which one?"}]}


@pytest.fixture(scope="module")
def provider():
    with serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def llm_api(serve, provider):
    """An API with an LLM; each run may call it three times."""
    base = f"http://elsewhere:{KEY}@127.0.0.1:{provider.server_port}/v1"
    named = {"llm_model_name": "openai/tiny", "llm_api_base": base, "llm_api_key": SecretStr(KEY)}
    return serve(**named, llm_timeout_seconds=1, grant_llm_calls=CALLS)


@pytest.fixture
def access(llm_api, provider):
    provider.requests.clear()
    provider.refuses_schema = 0
    provider.behave = lambda handler: handler.reply(GOOD)
    return llm_api.access(llm_api.new_job())


@pytest.fixture
def llm(llm_api, access):
    """The engine, configured as in the container."""
    base = f"{llm_api.url}/api/worker/llm"
    return Llm(
        LlmOptions(
            model=f"openai/{access.llm_model}", api_base=base, api_key=SecretStr(access.token), timeout_seconds=30
        )
    )


@pytest.fixture
def ask(llm_api, access):
    def send(token=access.token, **changes):
        return llm_api.post(PATH, content=json.dumps(CHAT | changes), headers={"authorization": f"Bearer {token}"})

    return send


def test_the_flows_engine_works_through_the_proxy(llm, provider):
    assert [pick.id for pick in llm.rerank(OFFERS, 2)] == ["w1", "w0"]
    assert [body["model"] for body in provider.requests] == ["tiny"]
    assert provider.requests[0]["response_format"]["type"] == "json_schema"


def test_a_provider_without_schemas_is_asked_again_without_one(llm, provider):
    provider.refuses_schema = 422
    assert len(llm.rerank(OFFERS, 2)) == 2
    assert ["response_format" in body for body in provider.requests] == [True, False]


def test_a_busy_provider_is_retried_when_it_says(llm, provider):
    def busy_once(handler):
        if len(provider.requests) == 1:
            return handler.send(429, '{"error": {"message": "slow down"}}', {"retry-after": "1"})
        return handler.reply(GOOD)

    provider.behave = busy_once
    began = time.monotonic()
    assert len(llm.rerank(OFFERS, 2)) == 2
    assert 1.0 <= time.monotonic() - began < 10


def test_calls_are_limited_per_run(llm_api, llm, ask, provider):
    assert [ask().status_code for _ in range(CALLS)] == [200] * CALLS
    refused = ask()
    assert (refused.status_code, refused.json()["detail"]) == (403, "the run has used up its LLM calls")
    with pytest.raises(LlmFailed, match="403"):
        llm.rerank(OFFERS, 2)
    assert len(provider.requests) == CALLS
    assert ask(llm_api.access(llm_api.new_job()).token).status_code == 200


def test_concurrent_calls_do_not_exceed_the_limit(ask, provider):
    threads = [threading.Thread(target=ask) for _ in range(CALLS + 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(provider.requests) == CALLS


def test_only_fields_the_flow_needs_are_forwarded(ask, provider):
    more = {"stream": True, "n": 50, "tools": [{}], "store": True, "temperature": 0.5, "max_tokens": 10**6, "seed": 7}
    assert ask(**more, user="me").status_code == 200
    messages = [{"role": "user", "content": "Which one?", "name": "x"}]
    assert ask(messages=messages, max_tokens=5).status_code == 200
    body = {"model": "tiny", "messages": CHAT["messages"]}
    assert provider.requests == [
        body | {"temperature": 0.5, "max_tokens": ANSWER_TOKENS, "seed": 7},
        body | {"max_tokens": 5},
    ]


def test_only_fields_the_flow_reads_are_returned(ask, provider):
    choice = {"index": 0, "finish_reason": "stop", "logprobs": [KEY], "message": {"role": "assistant", "content": "A"}}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": KEY, "choices": [choice], "debug": KEY}
    provider.behave = lambda handler: handler.send(200, json.dumps(answer), {"x-debug": KEY})
    found = ask()
    assert found.json()["choices"][0]["message"] == {"role": "assistant", "content": "A"}
    assert found.json()["model"] == "tiny"
    assert KEY not in f"{found.text} {found.headers}"


def trickle(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("behave", "status", "detail"),
    [
        (lambda h: h.send(400, KEY), 400, "the LLM refused the request"),
        (lambda h: h.send(429, KEY, {"retry-after": KEY}), 429, "the LLM is busy; try again later"),
        *(
            (behave, 502, "the LLM gave no valid answer")
            for behave in (
                lambda h: h.send(401, KEY),
                lambda h: h.send(500, KEY),
                lambda h: h.send(302, "", {"location": f"/v1/chat/completions?key={KEY}"}),
                lambda h: h.send(200, KEY),
                lambda h: h.send(200, "[" * 100_000),
                lambda h: h.send(200, json.dumps({"choices": [], "debug": KEY})),
                lambda h: h.reply("x" * 2_000_000),
                lambda h: h.connection.close(),
                trickle,
            )
        ),
    ],
)
def test_a_providers_failure_reveals_nothing_it_said(ask, provider, behave, status, detail, caplog):
    caplog.set_level(logging.INFO)
    provider.behave = behave
    began = time.monotonic()
    found = ask()
    assert (found.status_code, found.json()) == (status, {"detail": detail})
    assert KEY not in f"{found.headers} {caplog.text}"
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": []},
        {"messages": None},
        {"messages": "Which one?"},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": CHAT["messages"] * 21},
        {"messages": [{"role": "user", "content": "x" * (MAX_MESSAGE_CHARS // 2 + 1)}] * 2},
        {"response_format": {"type": "grammar"}},
        {"response_format": {"type": "json_schema", "json_schema": {"a": "x" * 20_001}}},
        {"temperature": 3},
        {"max_tokens": 0},
        {"seed": 10**30},
    ],
)
def test_malformed_calls_are_refused_and_not_counted(ask, provider, changes):
    refused = ask(**changes)
    assert (refused.status_code, refused.json()["detail"]) == (400, "messages are malformed")
    assert provider.requests == []
    assert [ask().status_code for _ in range(CALLS)] == [200] * CALLS


@pytest.mark.parametrize(("levels", "status"), [(900, 200), (3000, 400)])
def test_a_deeply_nested_schema_is_handled(llm_api, access, provider, levels, status):
    schema = '{"additionalProperties": false, "a": ' + '{"a":' * levels + "1" + "}" * levels + "}"
    shape = f'{{"type": "json_schema", "json_schema": {{"strict": true, "schema": {schema}}}}}'
    call = f'{json.dumps(CHAT)[:-1]}, "response_format": {shape}}}'
    found = llm_api.post(PATH, content=call, headers={"authorization": f"Bearer {access.token}"})
    assert found.status_code == status


def test_the_llm_needs_a_live_session(llm_api, access, ask, provider):
    assert ask(token="kks_invented").status_code == 403
    assert llm_api.post(PATH, json=CHAT).status_code == 403
    llm_api.jobs.report(Report(job_id=access.job_id, status=JobState.FAILED, error="x"))
    assert ask().status_code == 403
    assert provider.requests == []


@pytest.mark.parametrize("changes", [{}, {"llm_model_name": "openai/tiny", "grant_llm_calls": 0}])
def test_a_service_without_an_llm_answers_404(serve, changes):
    service = serve(**changes)
    access = service.access(service.new_job())
    assert access.llm_model is None
    assert service.post(PATH, json=CHAT, headers={"authorization": f"Bearer {access.token}"}).status_code == 404


GEMINI = f"https://{GEMINI_HOST}/v1beta/openai/chat/completions"


@pytest.mark.parametrize(
    ("name", "base", "url", "model"),
    [
        ("gemini-flash", f"https://{GEMINI_HOST}", GEMINI, "gemini-flash"),
        ("gemini/gemini-flash", f"https://{GEMINI_HOST}/v1beta", GEMINI, "gemini-flash"),
        ("gemini/gemini-flash", None, GEMINI, "gemini-flash"),
        ("qwen", "http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions", "qwen"),
        ("openai/org/qwen", "http://u:p@llm:1/v1", "http://llm:1/v1/chat/completions", "org/qwen"),
        ("openrouter/a/b", "https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions", "a/b"),
        ("openai/gpt-4o-mini", None, "https://api.openai.com/v1/chat/completions", "gpt-4o-mini"),
    ],
)
def test_model_names_resolve_as_in_the_engine(name, base, url, model):
    found = llm_endpoint(Settings(llm_model_name=name, llm_api_base=base))
    assert (found.url, found.model) == (url, model)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("gpt-4o-mini", None),
        ("anthropic/some-model", None),
        ("anthropic/some-model", "https://api.example"),
        ("groq/llama", None),
    ],
)
def test_providers_without_an_openai_api_are_not_offered(name, base, caplog):
    assert llm_model_for_granted(Settings(llm_model_name=name, llm_api_base=base)) is None
    assert "Rented machines cannot use the LLM: LLM_MODEL_NAME names" in caplog.text
