"""The embedded stack with its real servers: killed, interrupted, shared and misconfigured."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from infra.bucket.store import ArtifactStore
from infra.errors import ConfigError, StackError
from infra.local import services, supervisor
from infra.local import stack as stack_module
from infra.local.services import Home, Service
from infra.local.stack import LocalStack
from infra.settings import Settings
from tests.folders import ROOT

pytestmark = pytest.mark.long

BOTH = (Service.VALKEY, Service.S3)
SERVER_VARIABLES = (
    "REDIS_URL",
    "R2_ENDPOINT",
    "R2_BUCKET",
    "R2_ACCESS_KEY_ID",
    "R2_SECRET_ACCESS_KEY",
    "PREFECT_API_URL",
)

# A program that uses the stack: prints its addresses, waits, and on Ctrl-C pings Valkey before it exits.
OWNER_PROGRAM = """
import json, sys, time, redis
from pathlib import Path
from infra.local.services import Service
from infra.local.stack import LocalStack
from infra.settings import Settings

with LocalStack(Settings(KANGKLIP_DATA_DIR=Path(sys.argv[1])), [Service(name) for name in sys.argv[2:]]) as stack:
    try:
        print(json.dumps(stack.environment()), flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        with redis.Redis.from_url(stack.environment()["REDIS_URL"]) as client:
            print("alive" if client.ping() else "gone", flush=True)
print("stopped", flush=True)
"""


@pytest.fixture(autouse=True)
def no_servers_in_environment(monkeypatch: pytest.MonkeyPatch):
    """The environment names no server, whatever other tests have set."""
    for name in SERVER_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def settings(folder: Path, **fields: str) -> Settings:
    return Settings(KANGKLIP_DATA_DIR=folder, **fields)


def part_pids(folder: Path) -> list[int]:
    """Every process of the stack in this folder except its supervisor, whatever its parent."""
    return [process.pid for process in supervisor._marked_processes(Home(folder / "stack").secrets.mark)]


def is_supervised(folder: Path) -> bool:
    return stack_module._is_supervised(Home(folder / "stack"))


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_gone(folder: Path) -> bool:
    return not is_supervised(folder) and not part_pids(folder)


def supervisor_pid(folder: Path) -> int:
    return json.loads((folder / "stack" / "stack.json").read_text())["supervisor"]


def keep(stack: LocalStack, text: str) -> None:
    with redis.Redis.from_url(stack.environment()["REDIS_URL"]) as client:
        client.set("kept", text)
    ArtifactStore.from_settings(stack.settings).put_bytes("kept", text.encode(), "text/plain")


def kept(stack: LocalStack) -> tuple[str, str]:
    with redis.Redis.from_url(stack.environment()["REDIS_URL"], decode_responses=True) as client:
        return client.get("kept"), ArtifactStore.from_settings(stack.settings).get_bytes("kept").decode()


@contextmanager
def owner(folder: Path, *names: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(folder), *names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as in a shell
    )
    with process:
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with pytest.MonkeyPatch.context() as patch:
        for name in SERVER_VARIABLES:
            patch.delenv(name, raising=False)
        stack = LocalStack(settings(tmp_path_factory.mktemp("shared")), BOTH)
    with stack:
        yield stack
    assert is_gone(stack.home.path.parent)


@pytest.mark.parametrize("service", BOTH)
def test_a_killed_service_restarts_on_its_port_with_its_data(shared_stack: LocalStack, service: Service):
    keep(shared_stack, f"before {service}")
    before, pid = shared_stack.environment(), shared_stack.pid(service)
    shared_stack.restart(service, timeout=30)
    assert shared_stack.pid(service) != pid
    assert shared_stack.environment() == before
    assert kept(shared_stack) == (f"before {service}", f"before {service}")


def test_a_put_survives_a_restart_of_the_bucket(shared_stack: LocalStack):
    store = ArtifactStore.from_settings(shared_stack.settings)
    store.exists("kept")  # a connection that will break
    os.kill(shared_stack.pid(Service.S3), signal.SIGKILL)
    store.put_bytes("over/restart", b"stored", "text/plain")
    assert store.get_bytes("over/restart") == b"stored"


def test_a_killed_prefect_server_restarts_with_its_data(stack: LocalStack):
    url = stack.environment()["PREFECT_API_URL"]
    named = {"name": "kept_over_a_kill", "value": 7}
    httpx.post(f"{url}/variables/", json=named, timeout=30).raise_for_status()
    pid = stack.pid(Service.PREFECT)
    stack.restart(Service.PREFECT, timeout=120)
    assert stack.pid(Service.PREFECT) != pid
    assert httpx.get(f"{url}/variables/name/kept_over_a_kill", timeout=30).json()["value"] == 7


def test_the_prefect_page_calls_the_port_it_was_served_from(stack: LocalStack):
    url = stack.environment()["PREFECT_API_URL"]
    for address in (url, url.replace("127.0.0.1", "localhost")):
        page = address.removesuffix("/api")
        api_url = httpx.get(f"{page}/ui-settings", timeout=30).json()["api_url"]
        assert api_url == url
        answer = httpx.get(f"{api_url}/health", headers={"Origin": page}, timeout=30)
        assert answer.headers["access-control-allow-origin"] == page


def test_the_prefect_server_serves_its_page_without_analytics(stack: LocalStack):
    url = stack.environment()["PREFECT_API_URL"].removesuffix("/api")
    page = httpx.get(url, follow_redirects=True, timeout=30)
    assert "<html" in page.text.lower()
    served = httpx.get(f"{url}/api/admin/settings", timeout=30).json()
    assert served["server"]["analytics_enabled"] is False
    assert str(stack.home.path) in served["home"]


def test_a_worker_serves_an_external_prefect_server_and_stops(stack: LocalStack, tmp_path: Path):
    url = stack.environment()["PREFECT_API_URL"]
    with LocalStack(settings(tmp_path, prefect_api_url=url), [Service.WORKER]) as worker:
        assert [status.ok for status in worker.status()] == [True]
        pool = httpx.get(f"{url}/work_pools/{services.WORK_POOL}", timeout=30).json()
        assert pool["type"] == "process"
    assert is_gone(tmp_path)


def test_a_killed_supervisor_is_replaced(shared_stack: LocalStack):
    keep(shared_stack, "before the supervisor")
    folder, addresses = shared_stack.home.path.parent, shared_stack.environment()
    old = supervisor_pid(folder)
    os.kill(old, signal.SIGKILL)
    assert wait_until(lambda: supervisor_pid(folder) != old and all(s.ok for s in shared_stack.status()), 20)
    assert shared_stack.environment() == addresses
    assert kept(shared_stack) == ("before the supervisor",) * 2
    assert len(part_pids(folder)) == len(BOTH)


def test_no_supervisor_pid_is_recorded_while_one_starts(tmp_path: Path):
    home = Home(tmp_path / "stack")
    home.prepare()
    home.reset_state()
    assert json.loads((home.path / "stack.json").read_text())["supervisor"] is None


def test_processes_share_the_stack_and_the_last_one_stops_it(tmp_path: Path):
    with owner(tmp_path, "valkey") as (first, environment):
        second = LocalStack(settings(tmp_path), [Service.VALKEY]).start()
        assert second.environment()["REDIS_URL"] == environment["REDIS_URL"]
        first.send_signal(signal.SIGINT)
        assert first.stdout.read().split() == ["alive", "stopped"]
        assert [status.ok for status in second.status()] == [True]
        third = LocalStack(settings(tmp_path), [Service.VALKEY]).start()
        second.stop()
        assert second.stays_up(Service.VALKEY)
        third.stop()
        assert not third.stays_up(Service.VALKEY)
    assert is_gone(tmp_path)


def test_a_joining_process_can_add_a_service(tmp_path: Path):
    with LocalStack(settings(tmp_path), [Service.VALKEY]) as first:
        pid = first.pid(Service.VALKEY)
        with LocalStack(settings(tmp_path), BOTH) as second:
            keep(second, "both")
            assert second.pid(Service.VALKEY) == pid
            assert kept(second) == ("both", "both")


def test_a_killed_owner_leaves_no_process_and_the_next_start_has_the_data(tmp_path: Path):
    with owner(tmp_path, *BOTH) as (process, environment):
        with redis.Redis.from_url(environment["REDIS_URL"]) as client:
            client.set("kept", "acknowledged")
        with LocalStack(settings(tmp_path), BOTH) as joined:
            keep(joined, "acknowledged")
        groups = [os.getpgid(pid) for pid in part_pids(tmp_path)]
        assert len(groups) == len(BOTH)
        process.kill()
        process.wait()
        assert wait_until(lambda: is_gone(tmp_path), 5)
        for group in groups:
            with pytest.raises(ProcessLookupError):
                os.killpg(group, 0)
    with LocalStack(settings(tmp_path), BOTH) as again:
        assert kept(again) == ("acknowledged", "acknowledged")
        # Published addresses stay valid.
        assert again.environment()["R2_ENDPOINT"] == environment["R2_ENDPOINT"]


def test_data_survives_a_kill_of_owner_and_supervisor_together(tmp_path: Path):
    with owner(tmp_path, *BOTH) as (process, _):
        with LocalStack(settings(tmp_path), BOTH) as joined:
            keep(joined, "acknowledged")
        os.kill(supervisor_pid(tmp_path), signal.SIGKILL)
        process.kill()
        process.wait()
    with LocalStack(settings(tmp_path), BOTH) as again:
        assert kept(again) == ("acknowledged", "acknowledged")
        assert len(part_pids(tmp_path)) == len(BOTH)


def test_ctrl_c_stops_the_stack_cleanly(tmp_path: Path):
    with owner(tmp_path, *BOTH) as (process, _):
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read().split() == ["alive", "stopped"]
        assert process.wait(10) == 0
    assert is_gone(tmp_path)
    log = (tmp_path / "stack" / "logs" / "supervisor.log").read_text()
    assert log.rstrip().endswith("stopped")
    assert "killed" not in log


def test_broken_files_left_in_the_folder_are_tolerated(tmp_path: Path):
    home = Home(tmp_path / "stack")
    home.prepare()
    (home.path / "stack.json").write_text('{"parts": {"valkey": {"pid": 1,')
    (home.path / "secrets.json").write_text('{"redis_password": "x"}')
    home.request_service(Service.S3)
    (home.path / "s3" / "mini.options").write_text("s3.port=1\n")
    with LocalStack(settings(tmp_path), [Service.VALKEY]) as stack:
        assert [status.ok for status in stack.status()] == [True]
        assert set(home.state()) == {Service.VALKEY}


def test_new_secrets_open_the_old_data(tmp_path: Path):
    folder = tmp_path / 'a "quoted" Käse'
    with LocalStack(settings(folder), BOTH) as stack:
        keep(stack, "old")
    (stack.home.path / "secrets.json").unlink()
    with LocalStack(settings(folder), BOTH) as stack:
        assert kept(stack) == ("old", "old")


def test_secrets_are_readable_by_the_owner_alone(shared_stack: LocalStack):
    home = shared_stack.home
    assert (home.path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (home.path / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    assert home.path.stat().st_mode & 0o777 == 0o700
    listing = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    logs = "".join(path.read_text() for path in home.logs.iterdir())
    for secret in (home.secrets.redis_password, home.secrets.s3_secret):
        assert secret not in listing
        assert secret not in logs
    without = re.sub(r":[0-9a-f]+@", "", shared_stack.environment()["REDIS_URL"])
    with redis.Redis.from_url(without) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("kept")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is nobody's address")
def test_every_service_listens_on_loopback_only(shared_stack: LocalStack):
    for port in shared_stack._ports().values():
        with closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == 0
        with closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.2", port)) != 0


def test_a_taken_fixed_port_is_named(tmp_path: Path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"Port {port} for the Prefect server is taken") as refused:
            LocalStack(settings(tmp_path), [Service.PREFECT], prefect_port=port).start()
    assert "\n" not in str(refused.value)
    assert is_gone(tmp_path)


def test_servers_named_in_settings_are_not_started(tmp_path: Path):
    configured = settings(tmp_path, redis_url="redis://10.0.0.1", prefect_api_url="http://10.0.0.2/api")
    with LocalStack(configured) as stack:
        assert stack.needed == (Service.S3,)
        assert set(stack.home.state()) == {Service.S3}
        assert not {"REDIS_URL", "PREFECT_API_URL", "PREFECT_HOME"} & set(stack.environment())
        assert stack.settings.redis_url == configured.redis_url
        assert stack.settings.prefect_api_url == configured.prefect_api_url
        assert stack.stays_up(Service.PREFECT)


def test_nothing_starts_if_every_server_is_named(tmp_path: Path):
    named = {"redis_url": "redis://a", "r2_endpoint": "http://b", "prefect_api_url": "http://c/api"}
    with LocalStack(settings(tmp_path, **named)) as stack:
        assert stack.status() == []
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_cannot_start_says_why_and_leaves_no_process(tmp_path: Path):
    (tmp_path / "stack" / "valkey").mkdir(parents=True)
    (tmp_path / "stack" / "valkey" / "appendonlydir").write_text("a file where a folder belongs")
    stack = LocalStack(settings(tmp_path), [Service.VALKEY])
    with pytest.raises(StackError, match=r"Valkey does not start: ended with 1 .*valkey\.log"):
        stack.start()
    assert is_gone(tmp_path)
    (tmp_path / "stack" / "valkey" / "appendonlydir").unlink()
    with stack:  # the next start works
        assert [status.ok for status in stack.status()] == [True]


def test_a_full_disk_is_reported_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack_module, "_MIN_FREE_SHARE", 1.1)
    with pytest.raises(StackError, match=r"has \d+ MiB left and the stack needs \d+; free some space"):
        LocalStack(settings(tmp_path), BOTH).start()
    assert not (tmp_path / "stack" / "stack.json").exists()


def test_a_data_folder_that_is_a_file_is_reported(tmp_path: Path):
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match=r"data folder .* cannot be used"):
        LocalStack(settings(tmp_path / "data"), BOTH).start()


def test_status_distinguishes_running_idle_and_missing_services(
    shared_stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert [(s.name, s.ok) for s in shared_stack.status()] == [("valkey", True), ("s3", True)]
    assert all("up on port" in s.detail for s in shared_stack.status())
    idle = LocalStack(settings(tmp_path), BOTH)
    assert [(s.ok, s.detail) for s in idle.status()] == [(True, "embedded; starts when needed")] * 2
    monkeypatch.setattr(services, "program", lambda _: None)
    assert [s.ok for s in idle.status()] == [False, False]
    with pytest.raises(StackError, match=r"Valkey: its program is missing; install it"):
        idle.start()


def test_the_stack_does_not_import_prefect():
    code = "import sys, infra.local.stack; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_waiting_is_reported_as_progress(tmp_path: Path):
    messages: list[str] = []
    with LocalStack(settings(tmp_path), [Service.VALKEY], progress=messages.append):
        pass
    assert messages == ["waiting for Valkey"]
