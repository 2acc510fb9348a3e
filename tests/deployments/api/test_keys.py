"""Ownership of jobs by API key, limits per key, the audit log, and requests from foreign pages."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra import settings
from infra.errors import ConfigError
from infra.settings import Settings
from tests.deployments.api.conftest import OPERATOR, ORIGIN, REQUEST
from tests.editable_job import store_published

ANN, BEN, NOBODY = {"x-api-key": "key-of-ann"}, {"x-api-key": "key-of-ben"}, {"x-api-key": "wrong"}
ROOT = {"x-operator-key": OPERATOR}
READS = [
    "",
    "/results",
    "/manifest",
    "/edit",
    "/words",
    "/source",
    "/clips/clip_01.mp4",
    "/clips/clip_01.mp4/download",
    "/events",
]
FORM = {"content-type": "text/plain"}


def assert_refused(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


@pytest.fixture(scope="module")
def keyed_api(serve):
    return serve(api_keys=SecretStr("ann:key-of-ann, ben:key-of-ben"), operator_key=SecretStr(OPERATOR))


@pytest.fixture
def anns_job(keyed_api) -> str:
    """Ann's succeeded job."""
    job_id = keyed_api.post("/api/jobs", json=REQUEST, headers=ANN).json()["job_id"]
    store_published(job_id, keyed_api.bucket)
    keyed_api.callback(job_id, "SUCCEEDED")
    return job_id


@pytest.mark.parametrize("path", READS)
def test_a_key_reads_its_own_jobs_only(keyed_api, anns_job, path):
    address = f"/api/jobs/{anns_job}{path}"
    for headers in (ANN, ROOT, ROOT | BEN, {}):
        assert keyed_api.get(address, headers=headers).status_code == (307 if path == "/source" else 200), headers
    assert_refused(keyed_api.get(address, headers=BEN), 404, "job not found")
    assert keyed_api.client.head(address, headers=BEN).status_code == 404
    assert_refused(keyed_api.get(address, headers=NOBODY), 401, "api key required")


@pytest.mark.parametrize(("method", "path"), [("POST", "/start"), ("POST", "/cancel"), ("DELETE", "")])
def test_a_key_changes_its_own_jobs_only(keyed_api, method, path):
    def ask(headers):
        return keyed_api.client.request(method, f"/api/jobs/{job_id}{path}", headers=headers)

    for headers in (ANN, ROOT):
        job_id = keyed_api.post("/api/jobs", json=REQUEST, headers=ANN).json()["job_id"]
        if path != "/cancel":
            keyed_api.callback(job_id, "FAILED")
        before = keyed_api.job(job_id)
        assert_refused(ask(BEN), 404, "job not found")
        assert_refused(ask({}), 401, "api key required")
        assert_refused(ask(NOBODY), 401, "api key required")
        assert keyed_api.job(job_id) == before
        assert ask(headers).status_code == 200


def test_a_key_lists_its_own_jobs_and_the_operator_lists_all(keyed_api):
    of = {
        name: [keyed_api.post("/api/jobs", json=REQUEST, headers=key).json()["job_id"] for _ in range(3)]
        for name, key in (("ann", ANN), ("ben", BEN))
    }

    def listed(headers, limit=100):
        jobs = keyed_api.get(f"/api/jobs?limit={limit}", headers=headers).json()["jobs"]
        return {job["job_id"]: job["owner"] for job in jobs}

    mine = listed(ANN)
    assert set(mine.values()) == {"ann"}
    assert set(of["ann"]) <= set(mine)
    assert not set(of["ben"]) & set(mine)
    assert list(listed(ANN, 2)) == of["ann"][:0:-1]
    assert {*of["ann"], *of["ben"]} <= set(listed(ROOT))
    assert_refused(keyed_api.get("/api/jobs"), 404, "not found")
    assert_refused(keyed_api.get("/api/jobs", headers=NOBODY), 401, "api key required")


def test_idempotency_keys_are_separate_per_api_key(keyed_api):
    same = {"idempotency-key": "monday"}
    ids = [keyed_api.post("/api/jobs", json=REQUEST, headers=key | same).json()["job_id"] for key in (ANN, BEN, ANN)]
    assert ids[0] == ids[2] != ids[1]


def test_without_keys_jobs_have_no_owner(api, job_id):
    for headers in (ANN, NOBODY, {}):
        assert api.get(f"/api/jobs/{job_id}", headers=headers).status_code == 200
    assert api.post(f"/api/jobs/{job_id}/cancel", headers=NOBODY).status_code == 200
    assert api.get("/metrics").status_code == 200


@pytest.mark.parametrize("keys", [{"api_keys": SecretStr("key-of-ann")}, {"operator_key": SecretStr(OPERATOR)}])
def test_with_keys_configured_metrics_need_the_operator_key(serve, keys):
    api = serve(**{"operator_key": SecretStr(OPERATOR)} | keys)
    for headers in ({}, ANN, {"x-operator-key": "wrong"}, {"authorization": "Bearer wrong"}):
        assert api.get("/metrics", headers=headers).status_code == 401
    for headers in (ROOT, {"authorization": f"Bearer {OPERATOR}"}):
        assert b"kangklip_jobs" in api.get("/metrics", headers=headers).content
    assert api.get("/healthz").status_code == 200


def test_with_keys_but_no_operator_key_metrics_are_closed(serve):
    api = serve(api_keys=SecretStr("key-of-ann"))
    assert_refused(api.get("/metrics", headers=ANN), 401, "operator key required")


def test_an_api_key_has_a_stable_name(monkeypatch):
    def named(text):
        return Settings(API_KEYS=text).named_api_keys

    assert named("ann:one, two,http://x:3") == {"one": "ann", "two": named("two")["two"], "//x:3": "http"}
    assert named("two,one") | named("two") == named("two,one")
    assert named("two")["two"].startswith("key-")
    assert "two" not in named("two")["two"]


def test_the_rate_limit_counts_per_key(serve):
    api = serve(api_keys=SecretStr("ann:key-of-ann,ben:key-of-ben"), create_rate_per_minute=2)
    by = {
        who: [api.post("/api/jobs", json=REQUEST, headers=key).status_code for _ in range(4)]
        for who, key in (("ann", ANN), ("ben", BEN))
    }
    for statuses in by.values():  # a new minute may begin meanwhile
        assert statuses[:2] == [200, 200]
        assert 429 in statuses[2:]


def create_forwarded(api, addresses, chain):
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
def test_only_a_trusted_proxy_can_name_the_client(serve, trusted, chain, each):
    """Addresses left of the last one that a trusted proxy did not add may be forged."""
    api = serve(trusted_proxies=trusted, max_queued_per_key=1)
    statuses = create_forwarded(api, [1, 2, 3, 1], chain)
    assert statuses == ([200, 200, 200, 429] if each else [statuses[0], 429, 429, 429])


def test_trusted_proxies_are_addresses_or_networks(monkeypatch):
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.5, 172.16.0.0/12,fd00::/8")
    assert settings.load().trusted_proxies == ("10.0.0.5", "172.16.0.0/12", "fd00::/8")
    for wrong in ("*", "proxy.internal", "10.0.0.1/8"):
        monkeypatch.setenv("TRUSTED_PROXIES", wrong)
        with pytest.raises(ConfigError, match=r"TRUSTED_PROXIES.*addresses or networks"):
            settings.load()


def test_waiting_jobs_are_limited_per_key(serve):
    api = serve(api_keys=SecretStr("cid:key-of-cid,dan:key-of-dan"), max_queued_per_key=3)
    cid, dan = {"x-api-key": "key-of-cid"}, {"x-api-key": "key-of-dan"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("/api/jobs", json=REQUEST, headers=cid), range(12)))
    made = [answer.json()["job_id"] for answer in answers if answer.status_code == 200]
    full = next(answer for answer in answers if answer.status_code != 200)
    assert len(made) == 3
    assert_refused(full, 429, "too many of your jobs are waiting; try again when some have started")
    assert full.headers["retry-after"]
    assert api.post("/api/jobs", json=REQUEST, headers=dan).status_code == 200
    api.callback(made[0], "RUNNING")
    assert api.post("/api/jobs", json=REQUEST, headers=cid).status_code == 200
    assert api.post("/api/jobs", json=REQUEST, headers=cid).status_code == 429


def test_waiting_jobs_are_limited_in_total(serve):
    counting = serve()
    waiting = sum(1 for job in counting.jobs.active() if job.status == "QUEUED" and client_of(counting, job.job_id))
    api = serve(max_queued=waiting + 1)
    same = {"idempotency-key": "asked when it was full"}
    first = api.create().json()["job_id"]
    assert_refused(
        api.post("/api/jobs", json=REQUEST, headers=same),
        429,
        "too many jobs are waiting; try again when some have started",
    )
    api.callback(first, "RUNNING")
    assert api.post("/api/jobs", json=REQUEST, headers=same).status_code == 200


def client_of(api, job_id) -> str | None:
    return api.jobs._redis.hget(f"kangklip:job:{job_id}", "client")


def test_the_audit_log_records_every_change_and_its_key(keyed_api, caplog):
    caplog.set_level(logging.INFO, logger="kangklip.audit")
    job_id = keyed_api.post("/api/jobs", json=REQUEST, headers=ANN).json()["job_id"]
    keyed_api.post(f"/api/jobs/{job_id}/cancel", headers=BEN)
    keyed_api.post(f"/api/jobs/{job_id}/cancel", headers=ANN)
    keyed_api.post(f"/api/jobs/{job_id}/start", headers=ROOT)
    keyed_api.callback(job_id, "FAILED", attempt=2)
    keyed_api.client.delete(f"/api/jobs/{job_id}", headers=ANN)
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


def test_an_unfinished_deletion_belongs_to_the_jobs_key(keyed_api):
    job_id = keyed_api.post("/api/jobs", json=REQUEST, headers=ANN).json()["job_id"]
    keyed_api.callback(job_id, "FAILED")
    assert keyed_api.jobs.begin_deletion(job_id)
    assert_refused(keyed_api.client.delete(f"/api/jobs/{job_id}", headers=BEN), 404, "job not found")
    assert keyed_api.client.delete(f"/api/jobs/{job_id}", headers=ANN).json() == {"ok": True}
    assert job_id not in keyed_api.jobs.unfinished_deletions()


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
def test_changes_from_a_foreign_page_are_refused(api, job_id, page, content):
    headers = page | ({"content-type": content} if content else {})
    body = json.dumps(REQUEST)
    for method, path in [
        ("POST", "/api/jobs"),
        ("POST", f"/api/jobs/{job_id}/cancel"),
        ("DELETE", f"/api/jobs/{job_id}"),
        ("POST", "/api/callback/nosana"),
    ]:
        assert_refused(api.client.request(method, path, content=body, headers=headers), 403, "origin not allowed")
    assert api.job(job_id)["status"] == "QUEUED"


def test_our_own_page_and_allowed_origins_may_create_jobs(api):
    own = api.url.removesuffix("/")
    for page in (
        {"origin": own},
        {"origin": own, "sec-fetch-site": "same-origin"},
        {"origin": "https://clips.example", "sec-fetch-site": "same-origin"},  # behind a proxy that changes the host
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {},
    ):
        assert api.post("/api/jobs", json=REQUEST, headers=page).status_code == 200, page


def test_unknown_fields_are_reported(api):
    assert "warnings" not in api.create().json()
    answer = api.create(clip_cont=3, webhook="x", **{"a\x00\n" + "b" * 500: 1}).json()
    assert answer["warnings"][:2] == [
        'Unknown field "clip_cont" was ignored; did you mean clip_count?',
        'Unknown field "webhook" was ignored; did you mean webhook_url?',
    ]
    assert answer["warnings"][2].startswith('Unknown field "a b')
    assert len(answer["warnings"][2]) < 120
    many = api.create(**{f"x{n}": n for n in range(5000)}).json()["warnings"]
    assert (len(many), many[-1]) == (11, "4990 more unknown fields were ignored.")


def test_compose_passes_the_apis_limits():
    compose = Path("infra/docker/compose.yaml").read_text()
    for name in ("TRUSTED_PROXIES", "MAX_QUEUED", "MAX_QUEUED_PER_KEY", "MAX_EVENT_STREAMS"):
        assert f"{name}: ${{{name}:-}}" in compose
        assert f"{name}=" in Path("infra/docker/env.example").read_text()
