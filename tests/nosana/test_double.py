"""The double keeps the service's rules, also those that the client never breaks."""

import json
import os
import time

import httpx
import psutil
import pytest

from infra.nosana.job_definition import build, deployment_body
from tests.nosana import container
from tests.nosana.double import KEY, LARGE_MARKET, MARKET, OTHER_KEY, NosanaDouble
from tests.nosana.states import ended

WRONG = (500, {"error": "Deployment is in the incorrect state."})
ARCHIVED = (500, {"error": "Cannot modify an archived deployment."})
MISSING = (404, {"error": "Deployment not found."})
BAD = (400, {"error": "Bad Request"})
MOVES = [("POST", "/start"), ("POST", "/stop"), ("POST", "/archive"), ("DELETE", "")]


class Http:
    """Nosana over plain HTTP."""

    def __init__(self, url, key=KEY):
        headers = {"authorization": f"Bearer {key}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=10, verify=False)  # noqa: S501 no TLS here

    def say(self, method, path, **options):
        answer = self.client.request(method, path, **options)
        return answer.status_code, answer.json() if answer.content else None

    def make(self, **changes):
        status, made = self.say("POST", "/deployments/create", json=body(**changes))
        assert status == 200, made
        return made["id"]

    def status(self, one):
        return self.say("GET", f"/deployments/{one}")[1]["status"]

    def until(self, one, wanted):
        until(lambda: self.status(one) == wanted)
        return one

    def jobs(self, one):
        return self.say("GET", f"/deployments/{one}/jobs")[1]["jobs"]

    def until_job(self, one, wanted):
        until(lambda: [job["state"] for job in self.jobs(one)] == [wanted])

    def page(self, one):
        return self.say("GET", f"/deployments/{one}/jobs/{self.jobs(one)[0]['job']}")[1]

    def names(self, **query):
        return [one["name"] for one in self.say("GET", "/deployments", params=query)[1]["deployments"]]

    def left(self):
        """Credits that are neither spent nor reserved, in dollars."""
        said = self.say("GET", "/credits/balance")[1]
        return said["assignedCredits"] - said["reservedCredits"] - said["settledCredits"]


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


def lines(page, kind="stdout"):
    return [line["log"] for line in page["jobResult"]["opStates"][0]["logs"] if line["type"] == kind]


# Keys, bodies, lists


def test_without_a_key_nothing_is_answered_or_done(http, nosana):
    for header in ("", KEY, "Bearer", "Bearer nos_wrong", f"Basic {KEY}"):
        for method, path in [("GET", "/credits/balance"), ("POST", "/deployments/create")]:
            assert http.say(method, path, headers={"authorization": header}, json=body()) == (401, "Unauthorized")
    assert nosana.deployments == []


def test_an_invalid_create_is_refused_without_a_reason(http, nosana):
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
        assert http.say("POST", "/deployments/create", content=text) == BAD
    assert nosana.deployments == []


def test_a_name_is_not_unique_and_no_key_makes_a_create_happen_once(http):
    assert http.make(autostart=False) != http.make(autostart=False)
    assert http.names(name="kangklip-1") == ["kangklip-1", "kangklip-1"]


def test_what_is_anothers_is_not_there(http, nosana):
    one, stranger = http.until(http.make(), "STOPPED"), Http(nosana.url, OTHER_KEY)
    for method, path in [*MOVES, ("GET", ""), ("GET", "/jobs"), ("GET", f"/jobs/{'J' * 44}"), ("GET", "/events")]:
        assert stranger.say(method, f"/deployments/{one}{path}") == MISSING
    assert stranger.names() == []
    assert http.status(one) == "STOPPED"


def test_lists_by_exact_name_part_of_a_name_and_status(http):
    for name in ("kangklip-1", "kangklip-12", "other-1"):
        http.make(name=name, autostart=False)
    http.until(http.make(name="kangklip-3"), "STOPPED")
    assert http.names(name="kangklip-1") == ["kangklip-1"]
    assert set(http.names(search="kangklip-1")) == {"kangklip-1", "kangklip-12"}
    assert http.names(status="STOPPED") == ["kangklip-3"]
    assert len(http.names(status="DRAFT,STOPPED")) == 4
    assert http.names(name="kangklip") == http.names(status="RUNNING") == []


@pytest.mark.parametrize("query", [{"limit": "15"}, {"limit": "0"}, {"limit": "ten"}, {"cursor": "next"}])
def test_a_limit_is_one_of_four_and_a_cursor_is_as_it_was_given(http, query):
    one = http.make(autostart=False)
    for path in ("/deployments", f"/deployments/{one}/jobs", f"/deployments/{one}/events"):
        assert http.say("GET", path, params=query) == BAD


def test_pages_go_on_where_they_were_though_others_are_made_meanwhile(http):
    for number in range(25):
        http.make(name=f"kangklip-{number}", autostart=False)
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        query = {"limit": "10"} | ({"cursor": cursor} if cursor else {})
        page = http.say("GET", "/deployments", params=query)[1]
        seen += [one["name"] for one in page["deployments"]]
        cursor, pages = page["pagination"]["cursor_next"], pages + 1
        assert page["pagination"]["total_items"] == 24 + pages
        http.make(name="meanwhile", autostart=False)
    assert sorted(seen) == sorted(f"kangklip-{number}" for number in range(25))
    assert pages == 3
    back = http.say("GET", "/deployments", params={"cursor": page["pagination"]["cursor_prev"]})[1]
    assert [one["name"] for one in back["deployments"]] == seen[10:20]


def test_a_path_is_taken_to_the_letter(http, nosana):
    assert http.say("GET", "/markets")[0] == 404
    assert http.say("GET", "/deployments/")[0] == 404
    assert http.say("PUT", "/deployments")[0] == 404
    assert nosana.misdirected == [("GET", "/api/markets"), ("GET", "/api/deployments/"), ("PUT", "/api/deployments")]


def test_markets_by_address_and_by_slug(http):
    assert http.say("GET", "/markets/") == (200, [MARKET, LARGE_MARKET])
    for known in (MARKET["address"], MARKET["slug"]):
        assert http.say("GET", f"/markets/{known}/") == (200, MARKET)
    assert http.say("GET", "/markets/h100/")[0] == 404


# States


def test_a_draft_can_only_be_started(http, nosana):
    draft = http.make(autostart=False)
    for method, path in MOVES[1:]:
        assert http.say(method, f"/deployments/{draft}{path}") == WRONG
    assert nosana.unarchived() == ["kangklip-1"]
    assert http.say("POST", f"/deployments/{draft}/start")[1]["status"] == "STARTING"


def test_what_is_starting_can_not_be_touched(http, nosana):
    nosana.script = "slow start"
    one = http.make()
    for method, path in MOVES:
        assert http.say(method, f"/deployments/{one}{path}") == WRONG
    assert http.status(one) == "STARTING"
    http.until(one, "STOPPED")
    assert nosana.deployments[0].history == ["DRAFT", "STARTING", "RUNNING", "STOPPED"]


def test_what_runs_can_only_be_stopped(http, nosana):
    nosana.script = "never claimed"
    one = http.until(http.make(), "RUNNING")
    for method, path in (MOVES[0], *MOVES[2:]):
        assert http.say(method, f"/deployments/{one}{path}") == WRONG
    assert http.say("POST", f"/deployments/{one}/stop")[1]["status"] == "STOPPING"
    for method, path in MOVES:
        assert http.say(method, f"/deployments/{one}{path}") == WRONG
    http.until(one, "STOPPED")
    assert http.jobs(one)[0]["state"] == "STOPPED"


def test_what_is_stopped_can_be_archived_and_then_nothing(http, nosana):
    one = http.until(http.make(), "STOPPED")
    assert http.say("POST", f"/deployments/{one}/stop") == WRONG
    assert http.say("POST", f"/deployments/{one}/archive")[1]["status"] == "ARCHIVED"
    for method, path in MOVES:
        assert http.say(method, f"/deployments/{one}{path}") == ARCHIVED
    assert http.status(one) == "ARCHIVED"
    assert nosana.unarchived() == []


def test_what_is_deleted_is_gone_and_the_double_remembers(http, nosana):
    one = http.until(http.make(), "STOPPED")
    assert http.say("DELETE", f"/deployments/{one}") == (204, None)
    for method, path in [*MOVES, ("GET", "")]:
        assert http.say(method, f"/deployments/{one}{path}") == MISSING
    assert http.names() == []
    assert "HELLO" in nosana.definitions()


def test_starting_a_stopped_one_runs_it_again(http):
    one = http.make()
    for jobs in (1, 2):
        http.until(one, "STOPPED")
        assert len(http.jobs(one)) == jobs
        http.say("POST", f"/deployments/{one}/start")


def test_running_does_not_mean_that_there_is_a_job(http, nosana):
    nosana.script = "listed late"
    one = http.until(http.make(), "RUNNING")
    assert http.jobs(one) == []
    http.until(one, "STOPPED")
    assert len(http.jobs(one)) == 1


# Jobs and results


def test_a_job_is_told_by_name_in_the_list_and_by_number_on_its_page(http, nosana):
    nosana.scripts, nosana.minute = ["hangs", "never claimed", "ok"], 60
    runs, waits, over = (http.make() for _ in range(3))
    for one, name, number in [(runs, "RUNNING", 1), (waits, "QUEUED", 0), (over, "COMPLETED", 2)]:
        http.until_job(one, name)
        assert http.page(one)["state"] == number
    http.say("POST", f"/deployments/{runs}/stop")
    http.until_job(runs, "STOPPED")
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
    page = http.page(http.until(http.make(timeout=1), "STOPPED"))
    (operation,) = page["jobResult"]["opStates"]
    assert (page["state"], page["jobResult"]["status"]) == (2, "success")
    assert operation["exitCode"] == code
    assert [name for name, seen in operation["diagnostics"]["reason"].items() if seen] == [reason] * bool(reason)
    if reason:
        assert operation["status"] == "success"
    assert operation["diagnostics"].get("state", {}).get("OOMKilled", False) == (script == "out of memory")
    assert operation.get("error", {}).get("event") == ("image-pull-error" if script == "image" else None)


def test_results_come_late_or_blank_or_never(http, nosana):
    nosana.scripts = ["result late", "result lost", "result none"]
    late, lost, none = (http.make() for _ in range(3))
    http.until_job(late, "COMPLETED")
    assert http.page(late)["jobResult"] is None
    http.until(late, "STOPPED")
    assert http.page(late)["jobResult"]["opStates"][0]["exitCode"] == 0
    assert http.page(http.until(lost, "STOPPED"))["jobResult"]["opStates"] == []
    assert http.page(http.until(none, "STOPPED"))["jobResult"] is None


def test_a_page_shows_the_definition_in_clear_though_confidential(http):
    page = http.page(http.until(http.make(), "STOPPED"))
    assert page["confidential"] is True
    assert page["jobDefinition"]["ops"][0]["args"]["env"] == {"HELLO": "there"}


def test_a_market_that_does_not_answer_ends_in_error_which_waits_to_be_stopped(http, nosana):
    nosana.script = "not listed"
    one = http.until(http.make(), "ERROR")
    events = http.say("GET", f"/deployments/{one}/events")[1]["events"]
    assert {event["type"] for event in events} == {"JOB_LIST_ERROR"}
    assert len(events) == 6
    assert http.jobs(one) == []
    assert http.say("POST", f"/deployments/{one}/archive") == WRONG
    http.say("POST", f"/deployments/{one}/stop")
    http.until(one, "STOPPED")


# Credits


def test_without_credits_it_waits_and_is_paid_for_once_topped_up(http, nosana):
    nosana.script = "no credits"
    one = http.until(http.make(), "INSUFFICIENT_FUNDS")
    (event,) = http.say("GET", f"/deployments/{one}/events")[1]["events"]
    assert "Insufficient credits" in event["message"]
    assert http.jobs(one) == []
    nosana.top_up(1)
    http.until(one, "STOPPED")
    assert http.jobs(one)[0]["state"] == "COMPLETED"


def test_without_credits_it_can_be_stopped_and_started(http, nosana):
    nosana.credits[KEY] = 0.01
    one = http.until(http.make(), "INSUFFICIENT_FUNDS")
    assert http.say("POST", f"/deployments/{one}/start")[1]["status"] == "STARTING"
    http.until(one, "INSUFFICIENT_FUNDS")
    http.say("POST", f"/deployments/{one}/stop")
    http.until(one, "STOPPED")
    assert http.jobs(one) == []


def test_credits_are_reserved_for_the_timeout_and_settled_by_the_time(http, nosana):
    nosana.script = "never claimed"
    before = http.left()
    one = http.make(market=LARGE_MARKET["address"], timeout=120)
    http.until_job(one, "QUEUED")
    assert before - http.left() == pytest.approx(2 * 0.9)
    http.say("POST", f"/deployments/{one}/stop")
    http.until(one, "STOPPED")
    assert http.left() == before


# Answers that go wrong


def test_a_fault_befalls_the_next_call_of_its_route_only(http, nosana):
    nosana.faults["GET", "balance"] = [429, 502]
    nosana.retry_after = "7"
    assert http.say("GET", "/markets/")[0] == 200
    busy = http.client.get("/credits/balance")
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    gateway = http.client.get("/credits/balance")
    assert (gateway.status_code, gateway.text) == (502, "<html><title>502</title></html>")
    assert http.say("GET", "/credits/balance")[0] == 200


@pytest.mark.parametrize(("fault", "made"), [("lost", 1), ("torn", 1), ("cut", 0)])
def test_a_connection_is_closed_with_or_without_an_effect(http, nosana, fault, made):
    nosana.faults["POST", "create"] = [fault]
    with pytest.raises(httpx.RemoteProtocolError if fault == "torn" else httpx.HTTPError):
        http.make(autostart=False)
    assert len(nosana.deployments) == made
    assert http.make(autostart=False)


def test_a_gateway_hides_that_a_call_had_its_effect(http, nosana):
    nosana.faults["POST", "create"] = ["hidden"]
    assert http.client.post("/deployments/create", json=body()).status_code == 502
    assert len(nosana.deployments) == 1


def test_an_answer_comes_after_its_caller_has_gone(http, nosana):
    nosana.faults["POST", "create"] = [0.5]
    with pytest.raises(httpx.ReadTimeout):
        http.client.post("/deployments/create", json=body(), timeout=0.1)
    assert len(nosana.deployments) == 1


# What tests may ask


def test_scripts_are_taken_in_turn_or_chosen_by_the_body_or_a_tests_own(http, nosana):
    async def own(deployment):
        deployment.list_job().end(result=ended(9))

    nosana.scripts = ["exit 1", own]
    nosana.choose = None
    codes = []
    for _ in range(3):
        page = http.page(http.until(http.make(), "STOPPED"))
        codes.append(page["jobResult"]["opStates"][0]["exitCode"])
    nosana.choose = lambda asked: f"exit {asked['name'].rpartition('-')[2]}"
    page = http.page(http.until(http.make(name="kangklip-5"), "STOPPED"))
    assert [*codes, page["jobResult"]["opStates"][0]["exitCode"]] == [1, 9, 0, 5]


def test_most_live_counts_what_may_cost_something_at_once(http, nosana):
    nosana.script = "never claimed"
    http.make(autostart=False)
    first, second = http.make(), http.make()
    assert nosana.most_live == 2
    for one in (first, second):
        http.until(one, "RUNNING")
        http.say("POST", f"/deployments/{one}/stop")
        http.until(one, "STOPPED")
    http.make()
    assert nosana.most_live == 2


def test_every_call_is_recorded(http, nosana):
    http.make(autostart=False)
    http.say("GET", "/credits/balance")
    assert [call[:2] for call in nosana.requests] == [
        ("POST", "/api/deployments/create"),
        ("GET", "/api/credits/balance"),
    ]
    assert nosana.requests[0][2]["name"] == "kangklip-1"


def test_a_script_that_breaks_is_told_at_the_end():
    async def broken(deployment):
        raise ValueError("of the test's own")

    double = NosanaDouble(broken)
    with pytest.raises(ValueError, match="own"), double:
        Http(double.url).make()


# Containers that run


def test_a_container_has_nothing_of_the_hosts(http, nosana, monkeypatch):
    monkeypatch.setenv("CANARY", "of the host")
    nosana.script = "run"
    code = "import json, os, sys; print(json.dumps(dict(os.environ))); print(os.getcwd(), file=sys.stderr)"
    page = http.page(http.until(http.make(cmd=python(code)), "STOPPED"))
    seen = json.loads(lines(page)[0])
    assert set(seen) - {"LC_CTYPE"} == {"PATH", "HOME", "KANGKLIP_DATA_DIR", "HELLO"}
    assert seen["KANGKLIP_DATA_DIR"].startswith(seen["HOME"])
    assert seen["HOME"] != os.environ["HOME"]
    assert lines(page, "stderr") == [str(container.ROOT)]
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
def test_a_command_is_for_the_shell_or_as_it_is_and_its_status_is_the_results(http, nosana, cmd, code, says):
    nosana.script = "run"
    page = http.page(http.until(http.make(cmd=cmd), "STOPPED"))
    assert (page["state"], page["jobResult"]["status"]) == (2, "success")
    assert page["jobResult"]["opStates"][0]["exitCode"] == code
    assert lines(page) == [says]


def test_a_command_that_is_not_in_the_image_is_the_hosts_failure(http, nosana):
    nosana.script = "run"
    page = http.page(http.until(http.make(cmd=["no-such-program"]), "STOPPED"))
    assert page["jobResult"]["opStates"][0]["error"]["event"] == "container-runtime-error"


LOYAL = """
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
DEAF = LOYAL.replace("sys.exit(0)", "pass").replace("time.sleep(60)", "[time.sleep(1) for _ in range(60)]")


@pytest.mark.parametrize(("code", "status"), [(LOYAL, 0), (DEAF, 137)])
def test_a_container_is_asked_to_stop_then_killed_with_all_that_it_started(
    http, nosana, monkeypatch, tmp_path, code, status
):
    monkeypatch.setattr(container, "GRACE_SECONDS", 0.5)
    nosana.script, nosana.minute = "run", 60
    one = http.make(cmd=python(code), env={"READY": str(tmp_path / "ready")})
    until((tmp_path / "ready").exists)
    http.say("POST", f"/deployments/{one}/stop")
    page = http.page(http.until(one, "STOPPED"))
    child, told = lines(page)
    assert told == "told to stop"
    until(lambda: is_gone(child))
    (operation,) = page["jobResult"]["opStates"]
    assert (page["state"], operation["exitCode"]) == (3, status)
    assert operation["diagnostics"]["reason"]["jobStopped"] is True


def test_a_container_that_is_out_of_time_is_ended_and_labelled_success(http, nosana, monkeypatch):
    nosana.script, nosana.minute = "run", 0.5
    page = http.page(http.until(http.make(cmd=python("import time; time.sleep(60)"), timeout=1), "STOPPED"))
    (operation,) = page["jobResult"]["opStates"]
    assert (page["state"], operation["status"], operation["exitCode"]) == (2, "success", 143)
    assert operation["diagnostics"]["reason"] == {"hostShutDown": False, "jobStopped": False, "jobExpired": True}


def test_no_container_outlives_the_double(tmp_path):
    with NosanaDouble("run") as double:
        Http(double.url).make(cmd=python(LOYAL), env={"READY": str(tmp_path / "ready")})
        until((tmp_path / "ready").exists)
    (job,) = double.deployments[0].jobs
    assert lines(job.page())[1:] == ["told to stop"]
    assert is_gone(lines(job.page())[0])


def until(wanted):
    deadline = time.monotonic() + 15
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(process):
    """Ended, or ended and not waited for yet by whoever adopted it."""
    try:
        return psutil.Process(int(process)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
