"""A job's end reaches its webhook: signed, repeated until it is accepted, and never sent to a private address."""

import asyncio
import base64
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from deployments import webhooks
from deployments.webhooks import PAUSES, WebhookSender, keep_sending
from infra.errors import ConfigError
from infra.jobs.keys import WEBHOOKS, job_key
from infra.jobs.record import Report
from infra.jobs.webhooks import HIDDEN_SECONDS, PendingWebhooks
from infra.settings import load
from infra.states import JobState
from tests.deployments.api.conftest import WEBHOOK_SECRET, free_port

SECRET = WEBHOOK_SECRET
NEXT_SECRET, OTHER_SECRET = (f"whsec_{base64.b64encode(bytes([letter]) * 32).decode()}" for letter in b"bc")
UNENDING, NO_HTTP = b"HTTP/1.1 200 OK\r\n" + b"x" * 1000, b"220 ready\r\n\r\n"


class Receiver:
    """Context manager: an HTTP server that keeps the messages and answers with each of `statuses` in turn, then 200."""

    def __init__(self, *statuses):
        self.messages, self.paths, self.statuses, self.raw_answer = [], [], list(statuses), None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                receiver.paths.append(self.path)
                receiver.messages.append((dict(self.headers), body))
                if receiver.raw_answer is not None:
                    return receiver.answer_slowly(self.wfile)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("location", f"{receiver.url}/elsewhere")
                self.send_header("content-length", "0")
                return self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._closing = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer_slowly(self, stream):
        """Send `raw_answer` byte by byte, until the client or the receiver closes."""
        for letter in self.raw_answer:
            if self._closing.wait(0.02):
                return
            with contextlib.suppress(OSError):
                stream.write(bytes([letter]))

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def api(serve):
    return serve(webhook_secret=SecretStr(f"{SECRET},{NEXT_SECRET}"))


@pytest.fixture
def pending(api):
    api.jobs.connection.client.delete(WEBHOOKS)
    return PendingWebhooks(api.jobs.connection)


@pytest.fixture
def sender(pending):
    return WebhookSender(pending, (SECRET, NEXT_SECRET), allow_private=True)


def send_next(sender):
    return asyncio.run(sender.send_next())


def job_with_webhook(api, url):
    answer = api.create(webhook_url=url)
    assert answer.status_code == 200, answer.text
    return answer.json()["job_id"]


def end(api, job_id, status=JobState.SUCCEEDED, attempt=1, error=None):
    assert api.jobs.report(Report(job_id=job_id, attempt=attempt, status=status, error=error))


def make_due(api, job_id):
    """As if the pause until the next try were over."""
    assert api.jobs.connection.client.zadd(WEBHOOKS, {job_id: 1}, xx=True, ch=True) == 1


@pytest.mark.parametrize(
    ("status", "error", "kind"), [("SUCCEEDED", None, "job.succeeded"), ("FAILED", "Gone.", "job.failed")]
)
def test_a_receiver_can_verify_the_end_of_a_job_with_either_secret(api, sender, status, error, kind):
    with Receiver() as receiver:
        job_id = job_with_webhook(api, receiver.url)
        assert not send_next(sender)
        end(api, job_id, JobState(status), error=error)
        assert send_next(sender)
        assert not send_next(sender)
    [(headers, body)] = receiver.messages
    for secret in (SECRET, NEXT_SECRET):
        message = Webhook(secret).verify(body, headers)
    assert message["type"] == kind
    assert message["data"] == {
        "job_id": job_id,
        "attempt": 1,
        "status": status,
        "error": error,
        "results": f"/api/jobs/{job_id}/results",
    }
    assert message["timestamp"].endswith("+00:00")
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(body, headers)
    state = api.job(job_id)["webhook"]
    assert abs(state.pop("delivered_at") - time.time()) < 60
    assert state == {"attempt": 1, "tries": 1, "error": None}


def test_a_message_is_repeated_under_the_same_id_until_it_is_accepted(api, sender):
    with Receiver(500, 302, 429) as receiver:
        job_id = job_with_webhook(api, receiver.url)
        end(api, job_id)
        for tries, status in enumerate((500, 302, 429)):
            before = time.time()
            assert send_next(sender)
            pause = api.jobs.connection.client.zscore(WEBHOOKS, job_id) - before
            assert PAUSES[tries] <= pause <= PAUSES[tries] * (1 + webhooks.JITTER) + 30
            assert not send_next(sender)  # not before the pause is over
            assert api.job(job_id)["webhook"]["error"] == f"the receiver answered {status}"
            make_due(api, job_id)
        assert send_next(sender)
    assert receiver.paths == ["/"] * 4  # the redirect was not followed
    assert {headers["webhook-id"] for headers, _ in receiver.messages} == {f"msg_{job_id}_1"}
    assert len({body for _, body in receiver.messages}) == 1
    assert api.job(job_id)["webhook"]["tries"] == 4
    assert api.job(job_id)["webhook"]["error"] is None


def test_a_message_is_given_up_after_the_last_pause(api, sender):
    with Receiver(*[503] * (len(PAUSES) + 1)) as receiver:
        job_id = job_with_webhook(api, receiver.url)
        end(api, job_id)
        for _ in PAUSES:
            assert send_next(sender)
            make_due(api, job_id)
        assert send_next(sender)
    assert api.jobs.connection.client.zscore(WEBHOOKS, job_id) is None
    assert api.job(job_id)["webhook"] == {
        "attempt": 1,
        "tries": len(PAUSES) + 1,
        "delivered_at": None,
        "error": "the receiver answered 503",
    }


def test_a_receiver_that_is_gone_is_not_tried_again(api, sender):
    with Receiver(410) as receiver:
        job_id = job_with_webhook(api, receiver.url)
        end(api, job_id)
        assert send_next(sender)
    assert api.jobs.connection.client.zscore(WEBHOOKS, job_id) is None


@pytest.mark.parametrize("answer", [UNENDING, NO_HTTP], ids=["unending", "no HTTP"])
def test_a_receiver_that_does_not_finish_its_head_is_tried_again(api, sender, monkeypatch, answer):
    monkeypatch.setattr(webhooks, "ANSWER_SECONDS", 1.0)
    with Receiver() as receiver:
        receiver.raw_answer = answer
        job_id = job_with_webhook(api, receiver.url)
        assert_tried_again(api, sender, job_id)
    assert len(receiver.messages) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "nobody.invalid"])
def test_a_receiver_that_cannot_be_reached_is_tried_again(api, sender, host):
    assert_tried_again(api, sender, job_with_webhook(api, f"http://{host}:{free_port()}/"))


def assert_tried_again(api, sender, job_id):
    end(api, job_id)
    assert send_next(sender)
    assert "did not answer" in api.job(job_id)["webhook"]["error"]
    assert api.jobs.connection.client.zscore(WEBHOOKS, job_id) > time.time()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_no_message_is_sent_to_a_private_address(api, pending, host):
    guarded = WebhookSender(pending, (SECRET,))
    with Receiver() as receiver:
        job_id = job_with_webhook(api, receiver.url.replace("127.0.0.1", host))
        end(api, job_id)
        assert send_next(guarded)
    assert receiver.messages == []
    assert api.job(job_id)["webhook"]["error"] == "the receiver's address is not public"
    assert api.jobs.connection.client.zscore(WEBHOOKS, job_id) is None


def test_the_end_of_a_newer_attempt_replaces_one_that_is_waiting(api, sender):
    with Receiver(500) as receiver:
        job_id = job_with_webhook(api, receiver.url)
        end(api, job_id, JobState.FAILED, error="It broke.")
        assert send_next(sender)
        api.jobs.reopen(job_id, after=1)
        end(api, job_id, attempt=2)
        assert send_next(sender)
        assert not send_next(sender)
    kinds = [(json.loads(body)["type"], json.loads(body)["data"]["attempt"]) for _, body in receiver.messages]
    assert kinds == [("job.failed", 1), ("job.succeeded", 2)]
    assert api.job(job_id)["webhook"]["tries"] == 1


def test_an_answer_to_an_older_end_does_not_settle_the_newer_one(api, pending):
    job_id = job_with_webhook(api, "https://example.org/hook")
    end(api, job_id, JobState.FAILED, error="It broke.")
    taken = pending.take()
    api.jobs.reopen(job_id, after=1)
    end(api, job_id, attempt=2)
    pending.delivered(taken)
    assert pending.take().attempt == 2


def test_a_taken_end_is_hidden_until_its_sender_must_have_died(api, pending):
    job_id = job_with_webhook(api, "https://example.org/hook")
    end(api, job_id)
    before = time.time()
    assert pending.take().job_id == job_id
    assert pending.take() is None
    assert api.jobs.connection.client.zscore(WEBHOOKS, job_id) >= before + HIDDEN_SECONDS - 1
    make_due(api, job_id)
    assert pending.take().job_id == job_id


def test_a_webhook_of_a_record_that_expired_is_forgotten(api, pending):
    gone, kept = job_with_webhook(api, "https://example.org/a"), job_with_webhook(api, "https://example.org/b")
    end(api, gone)
    end(api, kept)
    api.jobs.connection.client.delete(job_key(gone))
    assert pending.take().job_id == kept
    assert pending.take() is None
    assert api.jobs.connection.client.zscore(WEBHOOKS, gone) is None


def test_automatic_retries_send_nothing_until_the_job_has_ended(api, pending):
    job_id = job_with_webhook(api, "https://example.org/hook")
    for attempt in range(1, 4):
        assert api.jobs.retry(job_id, attempt, "The machine was lost.")
        assert pending.take() is None
    assert api.jobs.retry(job_id, 4, "The machine was lost.")
    taken = pending.take()
    assert (taken.attempt, taken.status) == (4, JobState.FAILED)


def test_a_cancelled_job_sends_one_message(api, pending):
    job_id = job_with_webhook(api, "https://example.org/hook")
    assert api.post(f"/api/jobs/{job_id}/cancel").status_code == 200
    assert pending.take().error == "Cancelled."
    assert pending.take() is None


def test_the_address_stays_out_of_the_run_and_of_every_answer(api, pending, caplog):
    job_id = job_with_webhook(api, "https://example.org/hook?token=canary")
    end(api, job_id)
    guarded = WebhookSender(pending, (SECRET,))
    send_next(guarded)
    assert "webhook_url" not in api.runs.requests[job_id, 1]
    assert "canary" not in json.dumps(api.record(job_id).request) + api.get(f"/api/jobs/{job_id}").text + caplog.text


def test_the_address_counts_for_the_idempotency_key(api):
    headers = {"Idempotency-Key": f"hook-{time.time_ns()}"}
    body = {"video_url": "https://example.org/v.mp4", "clip_duration_seconds": 30, "clip_count": 1}
    first = api.post("/api/jobs", json=body | {"webhook_url": "https://example.org/a"}, headers=headers)
    again = api.post("/api/jobs", json=body | {"webhook_url": "https://example.org/a"}, headers=headers)
    other = api.post("/api/jobs", json=body | {"webhook_url": "https://example.org/b"}, headers=headers)
    assert (first.json(), other.status_code) == (again.json(), 409)


@pytest.mark.parametrize(
    "url", ["hook", "ftp://example.org", "https://me:pw@example.org", "https://example.org:22/", "https://a b/", 7, {}]
)
def test_an_address_that_no_message_could_be_sent_to_is_refused(api, url):
    answer = api.create(webhook_url=url)
    assert (answer.status_code, answer.json()) == (400, {"detail": "webhook_url must be a valid URL"})


def test_webhooks_need_a_secret(shared_api):
    answer = shared_api.create(webhook_url="https://example.org/hook")
    assert answer.status_code == 400
    assert answer.json()["detail"] == "webhook_url is not available: the server has no WEBHOOK_SECRET"
    assert WebhookSender.from_settings(PendingWebhooks(shared_api.jobs.connection), shared_api.settings) is None


@pytest.mark.parametrize("secret", ["whsec_short", "secret", "whsec_" + "a" * 200, f"{SECRET},nonsense"])
def test_a_secret_of_another_form_is_refused_with_the_command_that_makes_one(monkeypatch, secret):
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    with pytest.raises(ConfigError, match=r"WEBHOOK_SECRET must be whsec_ .* openssl rand -base64 32") as refused:
        load()
    assert secret not in str(refused.value)


def test_the_app_sends_by_itself(serve, pending):
    sender = WebhookSender(pending, (SECRET,), allow_private=True)
    api = serve(lambda: keep_sending(sender), webhook_secret=SecretStr(SECRET))
    with Receiver() as receiver:
        job_id = job_with_webhook(api, receiver.url)
        end(api, job_id)
        deadline = time.monotonic() + 30
        while not receiver.messages and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(receiver.messages) == 1
    assert httpx.get(f"{api.url}/healthz").status_code == 200
