"""The double enforces the service's rules, including those that our client never breaks."""

import asyncio
import json
import os
import signal
import threading
import time

import httpx
import psutil
import pytest

from infra.nosana.job_definition import build, deployment_body
from tests.nosana import container
from tests.nosana.double import KEY, LARGE_MARKET, MARKET, OTHER_KEY, NosanaDouble
from tests.nosana.states import ended

WRONG_STATE = (500, {"error": "Deployment is in the incorrect state."})
ARCHIVED = (500, {"error": "Cannot modify an archived deployment."})
MISSING = (404, {"error": "Deployment not found."})
BAD_REQUEST = (400, {"error": "Bad Request"})
TRANSITIONS = [("POST", "/start"), ("POST", "/stop"), ("POST", "/archive"), ("DELETE", "")]


class Http:
    """A plain HTTP client of Nosana."""

    def __init__(self, url, key=KEY):
        headers = {"authorization": f"Bearer {key}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=10, verify=False)  # noqa: S501 no TLS here

    def call(self, method, path, **options):
        answer = self.client.request(method, path, **options)
        return answer.status_code, answer.json() if answer.content else None

    def make(self, **changes):
        status, made = self.call("POST", "/deployments/create", json=body(**changes))
        assert status == 200, made
        return made["id"]

    def status(self, one):
        return self.call("GET", f"/deployments/{one}")[1]["status"]

    def wait_for_status(self, one, wanted):
        wait_until(lambda: self.status(one) == wanted)
        return one

    def jobs(self, one):
        return self.call("GET", f"/deployments/{one}/jobs")[1]["jobs"]

    def wait_for_job(self, one, wanted):
        wait_until(lambda: [job["state"] for job in self.jobs(one)] == [wanted])

    def page(self, one):
        return self.call("GET", f"/deployments/{one}/jobs/{self.jobs(one)[0]['job']}")[1]

    def names(self, **query):
        return [one["name"] for one in self.call("GET", "/deployments", params=query)[1]["deployments"]]

    def credits_left(self):
        """Credits in dollars that are neither spent nor reserved."""
        balance = self.call("GET", "/credits/balance")[1]
        return balance["assignedCredits"] - balance["reservedCredits"] - balance["settledCredits"]


@pytest.fixture
def http(nosana):
    return Http(nosana.url)


def body(cmd=None, env=None, **changes):
    definition = build("kangklip-worker", {"HELLO": "there"}, vram=8).model_dump(mode="json")
    args = definition["ops"][0]["args"]
    definition["ops"][0]["args"] = args | ({"cmd": cmd} if cmd else {}) | ({"env": env} if env is not None else {})
    made = deployment_body("kangklip-1", str(MARKET["address"]), 60, build("kangklip-worker", {}, vram=8))
    return made | {"job_definition": definition} | changes


def python(code):
    return ["python", "-c", code]


def log_lines(page, kind="stdout"):
    return [line["log"] for line in page["jobResult"]["opStates"][0]["logs"] if line["type"] == kind]


# Keys, bodies, lists


def test_calls_without_a_valid_key_are_refused(http, nosana):
    for header in ("", KEY, "Bearer", "Bearer nos_wrong", f"Basic {KEY}"):
        for method, path in [("GET", "/credits/balance"), ("POST", "/deployments/create")]:
            assert http.call(method, path, headers={"authorization": header}, json=body()) == (401, "Unauthorized")
    assert nosana.deployments == []


def test_an_invalid_create_is_refused(http, nosana):
    definition = body()["job_definition"]
    wrong = [
        {"replicas": 0},
        {"timeout": 0},
        {"market": "nvidia-3060"},
        {"strategy": "ONCE"},
        {"job_definition": definition | {"secrets": {}}},
        {"job_definition": definition | {"ops": definition["ops"] * 2}},
    ]
    for text in ("", "{", "[]", *(json.dumps(body() | change) for change in wrong), json.dumps(body(env={"N": 1}))):
        assert http.call("POST", "/deployments/create", content=text) == BAD_REQUEST
    assert nosana.deployments == []


def test_names_are_not_unique(http):
    assert http.make(autostart=False) != http.make(autostart=False)
    assert http.names(name="kangklip-1") == ["kangklip-1", "kangklip-1"]


def test_deployments_of_another_key_are_not_found(http, nosana):
    one, stranger = http.wait_for_status(http.make(), "STOPPED"), Http(nosana.url, OTHER_KEY)
    for method, path in [*TRANSITIONS, ("GET", ""), ("GET", "/jobs"), ("GET", f"/jobs/{'J' * 44}"), ("GET", "/events")]:
        assert stranger.call(method, f"/deployments/{one}{path}") == MISSING
    assert stranger.names() == []
    assert http.status(one) == "STOPPED"


def test_lists_filter_by_name_search_and_status(http):
    for name in ("kangklip-1", "kangklip-12", "other-1"):
        http.make(name=name, autostart=False)
    http.wait_for_status(http.make(name="kangklip-3"), "STOPPED")
    assert http.names(name="kangklip-1") == ["kangklip-1"]
    assert set(http.names(search="kangklip-1")) == {"kangklip-1", "kangklip-12"}
    assert http.names(status="STOPPED") == ["kangklip-3"]
    assert len(http.names(status="DRAFT,STOPPED")) == 4
    assert http.names(name="kangklip") == http.names(status="RUNNING") == []


@pytest.mark.parametrize("query", [{"limit": "15"}, {"limit": "0"}, {"limit": "ten"}, {"cursor": "next"}])
def test_other_limits_and_cursors_are_refused(http, query):
    one = http.make(autostart=False)
    for path in ("/deployments", f"/deployments/{one}/jobs", f"/deployments/{one}/events"):
        assert http.call("GET", path, params=query) == BAD_REQUEST


def test_pages_are_stable_while_deployments_are_created(http):
    for number in range(25):
        http.make(name=f"kangklip-{number}", autostart=False)
    names, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        query = {"limit": "10"} | ({"cursor": cursor} if cursor else {})
        page = http.call("GET", "/deployments", params=query)[1]
        names += [one["name"] for one in page["deployments"]]
        cursor, pages = page["pagination"]["cursor_next"], pages + 1
        assert page["pagination"]["total_items"] == 24 + pages
        http.make(name="meanwhile", autostart=False)
    assert sorted(names) == sorted(f"kangklip-{number}" for number in range(25))
    assert pages == 3
    back = http.call("GET", "/deployments", params={"cursor": page["pagination"]["cursor_prev"]})[1]
    assert [one["name"] for one in back["deployments"]] == names[10:20]


def test_paths_must_match_exactly(http, nosana):
    assert http.call("GET", "/markets")[0] == 404
    assert http.call("GET", "/deployments/")[0] == 404
    assert http.call("PUT", "/deployments")[0] == 404
    assert nosana.misdirected == [("GET", "/api/markets"), ("GET", "/api/deployments/"), ("PUT", "/api/deployments")]


def test_markets_are_found_by_address_and_slug(http):
    assert http.call("GET", "/markets/") == (200, [MARKET, LARGE_MARKET])
    for known in (MARKET["address"], MARKET["slug"]):
        assert http.call("GET", f"/markets/{known}/") == (200, MARKET)
    assert http.call("GET", "/markets/h100/")[0] == 404


# States


def test_a_draft_can_only_be_started(http, nosana):
    draft = http.make(autostart=False)
    for method, path in TRANSITIONS[1:]:
        assert http.call(method, f"/deployments/{draft}{path}") == WRONG_STATE
    assert nosana.unarchived() == ["kangklip-1"]
    assert http.call("POST", f"/deployments/{draft}/start")[1]["status"] == "STARTING"


def test_a_starting_deployment_cannot_be_changed(http, nosana):
    nosana.script = "slow start"
    one = http.make()
    for method, path in TRANSITIONS:
        assert http.call(method, f"/deployments/{one}{path}") == WRONG_STATE
    assert http.status(one) == "STARTING"
    http.wait_for_status(one, "STOPPED")
    assert nosana.deployments[0].history == ["DRAFT", "STARTING", "RUNNING", "STOPPED"]


def test_a_running_deployment_can_only_be_stopped(http, nosana):
    has_asked = threading.Event()

    async def stops_once_asked(deployment):
        job = deployment.list_job()
        await deployment.stopping.wait()
        await asyncio.to_thread(has_asked.wait)
        job.end("STOPPED", result=None)

    nosana.script = stops_once_asked
    one = http.wait_for_status(http.make(), "RUNNING")
    for method, path in (TRANSITIONS[0], *TRANSITIONS[2:]):
        assert http.call(method, f"/deployments/{one}{path}") == WRONG_STATE
    assert http.call("POST", f"/deployments/{one}/stop")[1]["status"] == "STOPPING"
    for method, path in TRANSITIONS:
        assert http.call(method, f"/deployments/{one}{path}") == WRONG_STATE
    has_asked.set()
    http.wait_for_status(one, "STOPPED")
    assert http.jobs(one)[0]["state"] == "STOPPED"


def test_a_stopped_deployment_can_be_archived_and_is_then_final(http, nosana):
    one = http.wait_for_status(http.make(), "STOPPED")
    assert http.call("POST", f"/deployments/{one}/stop") == WRONG_STATE
    assert http.call("POST", f"/deployments/{one}/archive")[1]["status"] == "ARCHIVED"
    for method, path in TRANSITIONS:
        assert http.call(method, f"/deployments/{one}{path}") == ARCHIVED
    assert http.status(one) == "ARCHIVED"
    assert nosana.unarchived() == []


def test_a_deleted_deployment_is_gone_but_remembered_by_the_double(http, nosana):
    one = http.wait_for_status(http.make(), "STOPPED")
    assert http.call("DELETE", f"/deployments/{one}") == (204, None)
    for method, path in [*TRANSITIONS, ("GET", "")]:
        assert http.call(method, f"/deployments/{one}{path}") == MISSING
    assert http.names() == []
    assert "HELLO" in nosana.definitions()


def test_a_stopped_deployment_can_run_again(http):
    one = http.make()
    for jobs in (1, 2):
        http.wait_for_status(one, "STOPPED")
        assert len(http.jobs(one)) == jobs
        http.call("POST", f"/deployments/{one}/start")


def test_a_running_deployment_may_have_no_job_yet(http, nosana):
    nosana.script = "listed late"
    one = http.wait_for_status(http.make(), "RUNNING")
    assert http.jobs(one) == []
    http.wait_for_status(one, "STOPPED")
    assert len(http.jobs(one)) == 1


# Jobs and results


def test_a_jobs_state_is_a_word_in_the_list_and_a_number_on_its_page(http, nosana):
    nosana.scripts, nosana.minute = ["hangs", "never claimed", "ok"], 60
    runs, waits, over = (http.make() for _ in range(3))
    for one, name, number in [(runs, "RUNNING", 1), (waits, "QUEUED", 0), (over, "COMPLETED", 2)]:
        http.wait_for_job(one, name)
        assert http.page(one)["state"] == number
    http.call("POST", f"/deployments/{runs}/stop")
    http.wait_for_job(runs, "STOPPED")
    assert http.page(runs)["state"] == 3


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("ok", 0, None),
        ("exit 3", 3, None),
        ("exit 41", 41, None),
        ("expired", 0, "jobExpired"),
        ("hangs", None, "jobExpired"),
        ("host shut down", 1, "hostShutDown"),
        ("out of memory", 137, None),
        ("image", 2, None),
    ],
)
def test_a_result_says_success_whatever_happened(http, nosana, script, code, reason):
    nosana.script = script
    page = http.page(http.wait_for_status(http.make(timeout=1), "STOPPED"))
    (operation,) = page["jobResult"]["opStates"]
    assert (page["state"], page["jobResult"]["status"]) == (2, "success")
    assert operation["exitCode"] == code
    assert [name for name, is_set in operation["diagnostics"]["reason"].items() if is_set] == [reason] * bool(reason)
    if reason:
        assert operation["status"] == "success"
    assert operation["diagnostics"].get("state", {}).get("OOMKilled", False) == (script == "out of memory")
    assert operation.get("error", {}).get("event") == ("image-pull-error" if script == "image" else None)


def test_results_can_come_late_empty_or_never(http, nosana):
    nosana.scripts = ["result late", "result lost", "result none"]
    late, lost, none = (http.make() for _ in range(3))
    http.wait_for_job(late, "COMPLETED")
    assert http.page(late)["jobResult"] is None
    http.wait_for_status(late, "STOPPED")
    assert http.page(late)["jobResult"]["opStates"][0]["exitCode"] == 0
    assert http.page(http.wait_for_status(lost, "STOPPED"))["jobResult"]["opStates"] == []
    assert http.page(http.wait_for_status(none, "STOPPED"))["jobResult"] is None


def test_a_jobs_page_shows_even_a_confidential_definition(http):
    page = http.page(http.wait_for_status(http.make(), "STOPPED"))
    assert page["confidential"] is True
    assert page["jobDefinition"]["ops"][0]["args"]["env"] == {"HELLO": "there"}


def test_a_job_that_cannot_be_listed_ends_in_error_until_stopped(http, nosana):
    nosana.script = "not listed"
    one = http.wait_for_status(http.make(), "ERROR")
    events = http.call("GET", f"/deployments/{one}/events")[1]["events"]
    assert {event["type"] for event in events} == {"JOB_LIST_ERROR"}
    assert len(events) == 6
    assert http.jobs(one) == []
    assert http.call("POST", f"/deployments/{one}/archive") == WRONG_STATE
    http.call("POST", f"/deployments/{one}/stop")
    http.wait_for_status(one, "STOPPED")


# Credits


def test_a_deployment_without_credits_runs_once_topped_up(http, nosana):
    nosana.script = "no credits"
    one = http.wait_for_status(http.make(), "INSUFFICIENT_FUNDS")
    (event,) = http.call("GET", f"/deployments/{one}/events")[1]["events"]
    assert "Insufficient credits" in event["message"]
    assert http.jobs(one) == []
    nosana.top_up(1)
    http.wait_for_status(one, "STOPPED")
    assert http.jobs(one)[0]["state"] == "COMPLETED"


def test_a_deployment_without_credits_can_be_stopped_and_started(http, nosana):
    nosana.credits[KEY] = 0.01
    one = http.wait_for_status(http.make(), "INSUFFICIENT_FUNDS")
    assert http.call("POST", f"/deployments/{one}/start")[1]["status"] == "STARTING"
    http.wait_for_status(one, "INSUFFICIENT_FUNDS")
    http.call("POST", f"/deployments/{one}/stop")
    http.wait_for_status(one, "STOPPED")
    assert http.jobs(one) == []


def test_credits_are_reserved_for_the_whole_timeout_and_released(http, nosana):
    nosana.script = "never claimed"
    before = http.credits_left()
    one = http.make(market=LARGE_MARKET["address"], timeout=120)
    http.wait_for_job(one, "QUEUED")
    assert before - http.credits_left() == pytest.approx(2 * 0.9)
    http.call("POST", f"/deployments/{one}/stop")
    http.wait_for_status(one, "STOPPED")
    assert http.credits_left() == before


# Faults


def test_a_fault_affects_only_the_next_call_of_its_route(http, nosana):
    nosana.faults["GET", "balance"] = [429, 502]
    nosana.retry_after = "7"
    assert http.call("GET", "/markets/")[0] == 200
    busy = http.client.get("/credits/balance")
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    gateway = http.client.get("/credits/balance")
    assert (gateway.status_code, gateway.text) == (502, "<html><title>502</title></html>")
    assert http.call("GET", "/credits/balance")[0] == 200


@pytest.mark.parametrize(("fault", "made"), [("lost", 1), ("torn", 1), ("cut", 0)])
def test_a_fault_can_close_the_connection_with_or_without_effect(http, nosana, fault, made):
    nosana.faults["POST", "create"] = [fault]
    with pytest.raises(httpx.RemoteProtocolError if fault == "torn" else httpx.HTTPError):
        http.make(autostart=False)
    assert len(nosana.deployments) == made
    assert http.make(autostart=False)


def test_a_fault_can_answer_502_for_a_call_that_took_effect(http, nosana):
    nosana.faults["POST", "create"] = ["hidden"]
    assert http.client.post("/deployments/create", json=body()).status_code == 502
    assert len(nosana.deployments) == 1


def test_a_fault_can_delay_the_response(http, nosana):
    nosana.faults["POST", "create"] = [0.5]
    with pytest.raises(httpx.ReadTimeout):
        http.client.post("/deployments/create", json=body(), timeout=0.1)
    assert len(nosana.deployments) == 1


# Controls for tests


def test_scripts_are_used_in_turn_or_chosen_by_the_body(http, nosana):
    async def own(deployment):
        deployment.list_job().end(result=ended(9))

    nosana.scripts = ["exit 1", own]
    nosana.choose = None
    codes = []
    for _ in range(3):
        page = http.page(http.wait_for_status(http.make(), "STOPPED"))
        codes.append(page["jobResult"]["opStates"][0]["exitCode"])
    nosana.choose = lambda body: f"exit {body['name'].rpartition('-')[2]}"
    page = http.page(http.wait_for_status(http.make(name="kangklip-5"), "STOPPED"))
    assert [*codes, page["jobResult"]["opStates"][0]["exitCode"]] == [1, 9, 0, 5]


def test_most_live_is_the_peak_of_live_deployments(http, nosana):
    nosana.script = "never claimed"
    http.make(autostart=False)
    first, second = http.make(), http.make()
    assert nosana.most_live == 2
    for one in (first, second):
        http.wait_for_status(one, "RUNNING")
        http.call("POST", f"/deployments/{one}/stop")
        http.wait_for_status(one, "STOPPED")
    http.make()
    assert nosana.most_live == 2


def test_every_call_is_recorded(http, nosana):
    http.make(autostart=False)
    http.call("GET", "/credits/balance")
    assert [call[:2] for call in nosana.requests] == [
        ("POST", "/api/deployments/create"),
        ("GET", "/api/credits/balance"),
    ]
    assert nosana.requests[0][2]["name"] == "kangklip-1"


def test_a_failing_script_raises_when_the_double_ends():
    async def broken(deployment):
        raise ValueError("of the test's own")

    double = NosanaDouble(broken)
    with pytest.raises(ValueError, match="own"), double:
        Http(double.url).make()


# Containers that run


def test_a_container_sees_nothing_of_this_machines_environment(http, nosana, monkeypatch):
    monkeypatch.setenv("CANARY", "of the host")
    nosana.script = "run"
    code = "import json, os, sys; print(json.dumps(dict(os.environ))); print(os.getcwd(), file=sys.stderr)"
    page = http.page(http.wait_for_status(http.make(cmd=python(code)), "STOPPED"))
    environment = json.loads(log_lines(page)[0])
    assert set(environment) - {"LC_CTYPE"} == {"PATH", "HOME", "KANGKLIP_DATA_DIR", "HELLO"}
    assert environment["KANGKLIP_DATA_DIR"].startswith(environment["HOME"])
    assert environment["HOME"] != os.environ["HOME"]
    assert log_lines(page, "stderr") == [str(container.ROOT)]
    assert page["jobResult"]["opStates"][0]["exitCode"] == 0


@pytest.mark.parametrize(
    ("cmd", "code", "says"),
    [
        (python("print('in python'); raise SystemExit(7)"), 7, "in python"),
        ('echo "in $0 with $HELLO"; exit 5', 5, "in /bin/sh with there"),
        (["echo", "$HELLO"], 0, "$HELLO"),
        (python("import os, signal; print('gone', flush=True); os.kill(os.getpid(), 11)"), 139, "gone"),
    ],
)
def test_a_string_runs_in_the_shell_and_a_list_directly(http, nosana, cmd, code, says):
    nosana.script = "run"
    page = http.page(http.wait_for_status(http.make(cmd=cmd), "STOPPED"))
    assert (page["state"], page["jobResult"]["status"]) == (2, "success")
    assert page["jobResult"]["opStates"][0]["exitCode"] == code
    assert log_lines(page) == [says]


def test_a_missing_command_is_a_host_failure(http, nosana):
    nosana.script = "run"
    page = http.page(http.wait_for_status(http.make(cmd=["no-such-program"]), "STOPPED"))
    assert page["jobResult"]["opStates"][0]["error"]["event"] == "container-runtime-error"


STOPS_ON_SIGTERM = """
import os, signal, sys, time, subprocess
def told(*_):
    print("told to stop", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
open(os.environ["READY"], "w").close()
time.sleep(60)
"""
IGNORES_SIGTERM = STOPS_ON_SIGTERM.replace("sys.exit(0)", "pass").replace(
    "time.sleep(60)", "[time.sleep(1) for _ in range(60)]"
)


@pytest.mark.parametrize(("code", "status"), [(STOPS_ON_SIGTERM, 0), (IGNORES_SIGTERM, 137)])
def test_a_stopped_container_gets_sigterm_then_sigkill_with_its_children(
    http, nosana, monkeypatch, tmp_path, code, status
):
    monkeypatch.setattr(container, "KILL_AFTER_SECONDS", 0.5)
    nosana.script, nosana.minute = "run", 60
    one = http.make(cmd=python(code), env={"READY": str(tmp_path / "ready")})
    wait_until((tmp_path / "ready").exists)
    http.call("POST", f"/deployments/{one}/stop")
    page = http.page(http.wait_for_status(one, "STOPPED"))
    child, line = log_lines(page)
    assert line == "told to stop"
    wait_until(lambda: is_gone(child))
    (operation,) = page["jobResult"]["opStates"]
    assert (page["state"], operation["exitCode"]) == (3, status)
    assert operation["diagnostics"]["reason"]["jobStopped"] is True


def test_an_expired_container_is_ended_and_labelled_success(http, nosana, monkeypatch):
    nosana.script, nosana.minute = "run", 0.5
    page = http.page(http.wait_for_status(http.make(cmd=python("import time; time.sleep(60)"), timeout=1), "STOPPED"))
    (operation,) = page["jobResult"]["opStates"]
    assert (page["state"], operation["status"], operation["exitCode"]) == (2, "success", 143)
    assert operation["diagnostics"]["reason"] == {"hostShutDown": False, "jobStopped": False, "jobExpired": True}


def test_no_container_outlives_the_double(tmp_path):
    with NosanaDouble("run") as double:
        Http(double.url).make(cmd=python(STOPS_ON_SIGTERM), env={"READY": str(tmp_path / "ready")})
        wait_until((tmp_path / "ready").exists)
    (job,) = double.deployments[0].jobs
    assert log_lines(job.page())[1:] == ["told to stop"]
    assert is_gone(log_lines(job.page())[0])


def wait_until(wanted):
    deadline = time.monotonic() + 15
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(process):
    """Whether the process has ended, reaped or not."""
    try:
        return psutil.Process(int(process)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_container_that_ignores_sigterm_does_not_outlive_the_double():
    async def stopped_early():
        started = await container.Container.start(
            ["/bin/sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"], {}
        )
        for _ in range(250):
            await asyncio.sleep(0 if started._lines else 0.02)
        ending = asyncio.create_task(started.end())
        await asyncio.sleep(0.1)
        ending.cancel()
        return await asyncio.wait_for(started._process.wait(), 5)

    assert asyncio.run(stopped_early()) == -signal.SIGKILL
