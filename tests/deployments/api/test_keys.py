"""Whose a job is, how much each may ask for, and what is written down of it."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra import settings
from infra.errors import ConfigError
from infra.settings import Settings
from tests.deployments.api.conftest import OPERATOR, ORIGIN, REQUEST, clip_entry

ANN, BEN, NOBODY = {"x-api-key": "key-of-ann"}, {"x-api-key": "key-of-ben"}, {"x-api-key": "wrong"}
ROOT = {"x-operator-key": OPERATOR}
READS = ["", "/results", "/manifest", "/clips/clip_01.mp4", "/clips/clip_01.mp4/download", "/events"]
FORM = {"content-type": "text/plain"}


def refused(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


@pytest.fixture(scope="module")
def keyed(serve):
    return serve(api_keys=SecretStr("ann:key-of-ann, ben:key-of-ben"), operator_key=SecretStr(OPERATOR))


@pytest.fixture
def anns(keyed) -> str:
    """A job of Ann's that has succeeded."""
    job_id = keyed.post("/api/jobs", json=REQUEST, headers=ANN).json()["job_id"]
    keyed.bucket.put_bytes(f"jobs/{job_id}/clip_01.mp4", bytes(50), "video/mp4")
    keyed.bucket.put_json(f"jobs/{job_id}/manifest.json", {"clips": [clip_entry("clip_01.mp4")]})
    keyed.callback(job_id, "SUCCEEDED")
    return job_id


@pytest.mark.parametrize("path", READS)
def test_a_key_reads_its_own_jobs_alone(keyed, anns, path):
    address = f"/api/jobs/{anns}{path}"
    for headers in (ANN, ROOT, ROOT | BEN, {}):
        assert keyed.get(address, headers=headers).status_code == 200, headers
    refused(keyed.get(address, headers=BEN), 404, "job not found")
    assert keyed.client.head(address, headers=BEN).status_code == 404
    refused(keyed.get(address, headers=NOBODY), 401, "api key required")


@pytest.mark.parametrize(("method", "path"), [("POST", "/start"), ("POST", "/cancel"), ("DELETE", "")])
def test_a_key_changes_its_own_jobs_alone(keyed, method, path):
    def ask(headers):
        return keyed.client.request(method, f"/api/jobs/{job_id}{path}", headers=headers)

    for headers in (ANN, ROOT):
        job_id = keyed.post("/api/jobs", json=REQUEST, headers=ANN).json()["job_id"]
        if path != "/cancel":
            keyed.callback(job_id, "FAILED")
        before = keyed.job(job_id)
        refused(ask(BEN), 404, "job not found")
        refused(ask({}), 401, "api key required")
        refused(ask(NOBODY), 401, "api key required")
        assert keyed.job(job_id) == before
        assert ask(headers).status_code == 200


def test_a_key_lists_its_own_jobs_and_the_operator_all(keyed):
    of = {
        name: [keyed.post("/api/jobs", json=REQUEST, headers=key).json()["job_id"] for _ in range(3)]
        for name, key in (("ann", ANN), ("ben", BEN))
    }

    def listed(headers, limit=100):
        jobs = keyed.get(f"/api/jobs?limit={limit}", headers=headers).json()["jobs"]
        return {job["job_id"]: job["owner"] for job in jobs}

    mine = listed(ANN)
    assert set(mine.values()) == {"ann"}
    assert set(of["ann"]) <= set(mine)
    assert not set(of["ben"]) & set(mine)
    assert list(listed(ANN, 2)) == of["ann"][:0:-1]
    assert {*of["ann"], *of["ben"]} <= set(listed(ROOT))
    refused(keyed.get("/api/jobs"), 404, "not found")
    refused(keyed.get("/api/jobs", headers=NOBODY), 401, "api key required")


def test_the_same_idempotency_key_of_another_key_is_another_job(keyed):
    same = {"idempotency-key": "monday"}
    ids = [keyed.post("/api/jobs", json=REQUEST, headers=key | same).json()["job_id"] for key in (ANN, BEN, ANN)]
    assert ids[0] == ids[2] != ids[1]


def test_without_keys_nothing_is_anybodys(api, job_id):
    for headers in (ANN, NOBODY, {}):
        assert api.get(f"/api/jobs/{job_id}", headers=headers).status_code == 200
    assert api.post(f"/api/jobs/{job_id}/cancel", headers=NOBODY).status_code == 200
    assert api.get("/metrics").status_code == 200


@pytest.mark.parametrize("keys", [{"api_keys": SecretStr("key-of-ann")}, {"operator_key": SecretStr(OPERATOR)}])
def test_where_keys_are_set_numbers_need_the_operators(serve, keys):
    api = serve(**{"operator_key": SecretStr(OPERATOR)} | keys)
    for headers in ({}, ANN, {"x-operator-key": "wrong"}, {"authorization": "Bearer wrong"}):
        assert api.get("/metrics", headers=headers).status_code == 401
    for headers in (ROOT, {"authorization": f"Bearer {OPERATOR}"}):
        assert b"kangklip_jobs" in api.get("/metrics", headers=headers).content
    assert api.get("/healthz").status_code == 200


def test_numbers_are_nobodys_where_there_are_keys_and_no_operator(serve):
    api = serve(api_keys=SecretStr("key-of-ann"))
    refused(api.get("/metrics", headers=ANN), 401, "operator key required")


def test_a_key_has_a_name_that_stays(monkeypatch):
    def named(text):
        return Settings(API_KEYS=text).named_api_keys

    assert named("ann:one, two,http://x:3") == {"one": "ann", "two": named("two")["two"], "//x:3": "http"}
    assert named("two,one") | named("two") == named("two,one")
    assert named("two")["two"].startswith("key-")
    assert "two" not in named("two")["two"]


def test_the_rate_is_counted_by_key(serve):
    api = serve(api_keys=SecretStr("ann:key-of-ann,ben:key-of-ben"), create_rate_per_minute=2)
    by = {
        who: [api.post("/api/jobs", json=REQUEST, headers=key).status_code for _ in range(4)]
        for who, key in (("ann", ANN), ("ben", BEN))
    }
    for statuses in by.values():  # a minute of the clock may begin meanwhile
        assert statuses[:2] == [200, 200]
        assert 429 in statuses[2:]


def forwarded(api, addresses, chain):
    return [
        api.post("/api/jobs", json=REQUEST, headers={"x-forwarded-for": chain.format(address)}).status_code
        for address in addresses
    ]


@pytest.mark.parametrize(
    ("trusted", "chain", "each"),
    [
        ((), "203.0.113.{}", False),
        (("10.0.0.0/8",), "203.0.114.{}", False),
        (("127.0.0.1",), "203.0.115.{}", True),
        (("127.0.0.0/8", "10.0.0.0/8"), "9.9.9.9, 203.0.116.{}, 10.1.1.1", True),
        (("127.0.0.1",), "203.0.117.{}, 198.51.100.7", False),
    ],
)
def test_whose_rate_it_is_tells_a_trusted_proxy_alone(serve, trusted, chain, each):
    """What lies left of the last address that no proxy of ours has added may be made up."""
    api = serve(trusted_proxies=trusted, max_queued_per_key=1)
    statuses = forwarded(api, [1, 2, 3, 1], chain)
    assert statuses == ([200, 200, 200, 429] if each else [statuses[0], 429, 429, 429])


def test_proxies_are_named_by_address_or_network(monkeypatch):
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.5, 172.16.0.0/12,fd00::/8")
    assert settings.load().trusted_proxies == ("10.0.0.5", "172.16.0.0/12", "fd00::/8")
    for wrong in ("*", "proxy.internal", "10.0.0.1/8"):
        monkeypatch.setenv("TRUSTED_PROXIES", wrong)
        with pytest.raises(ConfigError, match=r"TRUSTED_PROXIES.*addresses and networks"):
            settings.load()


def test_only_so_many_jobs_of_a_key_wait(serve):
    api = serve(api_keys=SecretStr("cid:key-of-cid,dan:key-of-dan"), max_queued_per_key=3)
    cid, dan = {"x-api-key": "key-of-cid"}, {"x-api-key": "key-of-dan"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("/api/jobs", json=REQUEST, headers=cid), range(12)))
    made = [answer.json()["job_id"] for answer in answers if answer.status_code == 200]
    full = next(answer for answer in answers if answer.status_code != 200)
    assert len(made) == 3
    refused(full, 429, "too many of your jobs are waiting; try again when some of them have started")
    assert full.headers["retry-after"]
    assert api.post("/api/jobs", json=REQUEST, headers=dan).status_code == 200
    api.callback(made[0], "RUNNING")
    assert api.post("/api/jobs", json=REQUEST, headers=cid).status_code == 200
    assert api.post("/api/jobs", json=REQUEST, headers=cid).status_code == 429


def test_only_so_many_jobs_wait_in_all(serve):
    counting = serve()
    waiting = sum(1 for job in counting.jobs.active() if job.status == "QUEUED" and client_of(counting, job.job_id))
    api = serve(max_queued=waiting + 1)
    same = {"idempotency-key": "asked when it was full"}
    first = api.create().json()["job_id"]
    refused(
        api.post("/api/jobs", json=REQUEST, headers=same),
        429,
        "too many jobs are waiting; try again when some of them have started",
    )
    api.callback(first, "RUNNING")
    assert api.post("/api/jobs", json=REQUEST, headers=same).status_code == 200


def client_of(api, job_id) -> str | None:
    return api.jobs._redis.hget(f"kangklip:job:{job_id}", "client")


def test_what_was_changed_by_whom_is_written_down(keyed, caplog):
    caplog.set_level(logging.INFO, logger="kangklip.audit")
    job_id = keyed.post("/api/jobs", json=REQUEST, headers=ANN).json()["job_id"]
    keyed.post(f"/api/jobs/{job_id}/cancel", headers=BEN)
    keyed.post(f"/api/jobs/{job_id}/cancel", headers=ANN)
    keyed.post(f"/api/jobs/{job_id}/start", headers=ROOT)
    keyed.callback(job_id, "FAILED", attempt=2)
    keyed.client.delete(f"/api/jobs/{job_id}", headers=ANN)
    lines = [record.fields for record in caplog.records if record.name == "kangklip.audit"]
    mine = [line for line in lines if line["job_id"] == job_id]
    assert [(line["action"], line["key"]) for line in mine] == [
        ("create", "ann"),
        ("cancel", "ann"),
        ("start", "operator"),
        ("delete", "ann"),
    ]
    assert {line["client"] for line in mine} == {"127.0.0.1"}
    assert not [secret for secret in ("key-of-ann", OPERATOR) if secret in json.dumps(lines)]


@pytest.mark.parametrize("content", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize(
    "page",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_change_that_a_foreign_page_asks_for_is_refused(api, job_id, page, content):
    headers = page | ({"content-type": content} if content else {})
    body = json.dumps(REQUEST)
    for method, path in [
        ("POST", "/api/jobs"),
        ("POST", f"/api/jobs/{job_id}/cancel"),
        ("DELETE", f"/api/jobs/{job_id}"),
        ("POST", "/api/callback/nosana"),
    ]:
        refused(api.client.request(method, path, content=body, headers=headers), 403, "origin not allowed")
    assert api.job(job_id)["status"] == "QUEUED"


def test_our_own_page_and_the_allowed_ones_may_ask(api):
    own = api.url.removesuffix("/")
    for page in (
        {"origin": own},
        {"origin": own, "sec-fetch-site": "same-origin"},
        {"origin": "https://clips.example", "sec-fetch-site": "same-origin"},  # behind a proxy that renames the host
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {},
    ):
        assert api.post("/api/jobs", json=REQUEST, headers=page).status_code == 200, page


def test_fields_that_nobody_reads_are_named(api):
    assert "warnings" not in api.create().json()
    answer = api.create(clip_cont=3, webhook="x", **{"a\x00\n" + "b" * 500: 1}).json()
    assert answer["warnings"][:2] == [
        'Unknown field "clip_cont" was ignored; did you mean clip_count?',
        'Unknown field "webhook" was ignored.',
    ]
    assert answer["warnings"][2].startswith('Unknown field "a b')
    assert len(answer["warnings"][2]) < 120
    many = api.create(**{f"x{n}": n for n in range(5000)}).json()["warnings"]
    assert (len(many), many[-1]) == (11, "4990 more unknown fields were ignored.")


def test_compose_passes_the_settings_of_the_api():
    compose = Path("infra/docker/compose.yaml").read_text()
    for name in ("TRUSTED_PROXIES", "MAX_QUEUED", "MAX_QUEUED_PER_KEY", "MAX_EVENT_STREAMS"):
        assert f"{name}: ${{{name}:-}}" in compose
        assert f"{name}=" in Path("infra/docker/env.example").read_text()
