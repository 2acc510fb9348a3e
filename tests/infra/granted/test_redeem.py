"""Redis that fails while a grant is redeemed: the container that asks again gets a session, and is no thief."""

import contextlib
import socket
import threading

import pytest
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.errors import StateError
from infra.granted.grant import Grant, expiry_after
from infra.granted.session import GrantAlreadyRedeemed, SessionStore
from infra.jobs.ids import new_job_id
from infra.jobs.store import JobStore
from infra.states import JobState

NONCE = "the-nonce-of-a-container"
RUN = "11111111-1111-1111-1111-111111111111"
ALWAYS = 10**6


class FailingRedis:
    """A proxy to Redis that closes the connection of the next `failures` scripts, before or after they have run."""

    def __init__(self, address):
        self.failures, self.is_after = 0, False
        self._address, self._listener = address, socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client):
        has_failed = threading.Event()
        with client, socket.create_connection(self._address) as server, contextlib.suppress(OSError):
            threading.Thread(target=self._return_answers, args=[server, client, has_failed], daemon=True).start()
            while data := client.recv(1 << 20):
                if b"EVAL" in data and self.failures > 0:
                    self.failures -= 1
                    has_failed.set()
                    if not self.is_after:
                        return
                server.sendall(data)

    def _return_answers(self, server, client, has_failed):
        with contextlib.suppress(OSError):
            while (answer := server.recv(1 << 20)) and not has_failed.is_set():
                client.sendall(answer)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def redis(servers):
    url = servers.settings.redis_url.get_secret_value()
    login, _, place = url.rpartition("@")
    host, _, port = place.partition("/")[0].rpartition(":")
    proxy = FailingRedis((host, int(port)))
    proxy.url = f"{login}@127.0.0.1:{proxy.port}/0"
    yield proxy
    proxy.close()


@pytest.fixture
def jobs(servers, redis):
    """The store behind the proxy. redis-py retries at once here, instead of within seconds."""
    store = JobStore.from_settings(servers.settings.model_copy(update={"redis_url": SecretStr(redis.url)}))
    store.connection.client.set_retry(Retry(NoBackoff(), 3))
    yield store
    store.connection.client.close()


@pytest.fixture
def grant(jobs):
    job_id = new_job_id()
    jobs.create(job_id, "{}")
    jobs.set_run(job_id, 1, RUN)
    issued = Grant(job_id=job_id, run_id=RUN, attempt=1, session_seconds=600, expires_at=expiry_after(600))
    assert jobs.set_grant(issued.run, issued.grant_id)
    return issued


@pytest.mark.parametrize("is_after", [False, True], ids=["before the script", "after the script"])
def test_redis_failing_during_an_exchange_is_not_taken_for_a_theft(redis, jobs, grant, is_after):
    """It fails once, which redis-py's own retry covers; then for good, and the container asks again."""
    sessions, redis.is_after = SessionStore(jobs), is_after
    redis.failures = 1
    first, _ = sessions.open(grant, "flow", None, NONCE)
    redis.failures = ALWAYS
    with pytest.raises(StateError):
        sessions.open(grant, "flow", None, NONCE)
    assert redis.failures < ALWAYS
    redis.failures = 0
    last, _ = sessions.open(grant, "flow", None, NONCE)
    job = jobs.get(grant.job_id)
    assert (job.status, job.error) == (JobState.QUEUED, None)
    assert sessions.find(first) is None
    assert sessions.find(last).session_id
    with pytest.raises(GrantAlreadyRedeemed):  # its session was used: whoever exchanges it now has stolen it
        sessions.open(grant, "flow", None, NONCE)


def test_redis_failing_before_the_first_exchange_leaves_the_grant_as_it_was(redis, jobs, grant):
    redis.failures = ALWAYS
    with pytest.raises(StateError):
        SessionStore(jobs).open(grant, "flow", None, NONCE)
    redis.failures = 0
    token, _ = SessionStore(jobs).open(grant, "flow", None, "another-nonce-of-the-container")
    assert SessionStore(jobs).find(token)
