"""A strict OpenAI-compatible server on loopback that can also misbehave."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-very-secret-0123456789"
KNOWN = {
    "model", "messages", "temperature", "top_p", "n", "stream", "stop", "max_tokens", "max_completion_tokens",
    "response_format", "seed", "user", "tools", "tool_choice",
}  # fmt: skip


def pick(name: str, title: str, **more) -> dict:
    return {"id": name, "titles": [title], "hook": "", "description": "A story.", "hashtags": ["cats"]} | more


GOOD = {"clips": [pick("w1", "A backup you never restored"), pick("w0", "Grandmother's kitten")]}


class Server(ThreadingHTTPServer):
    """Answers and refuses as OpenAI's server does; `behave` replaces the answer."""

    daemon_threads = True
    behave = staticmethod(lambda handler: handler.reply(GOOD))
    refuses_schema = 0
    """The status that refuses `response_format`, or 0 to accept it."""

    def handle_error(self, request, client_address):
        """Ignore clients that hang up."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(body)
        fault = self.fault(body)
        if fault:
            return self.send(fault[0], json.dumps({"error": {"message": fault[1], "type": "invalid_request_error"}}))
        return self.server.behave(self)

    def fault(self, body):
        shape = body.get("response_format")
        schema = shape.get("json_schema") if shape else None
        faults = {
            (404, "no such path"): self.path != "/v1/chat/completions",
            (401, f"incorrect key {self.headers.get('authorization')}"): (
                self.headers.get("authorization") != f"Bearer {KEY}"
            ),
            (404, "model not found"): body.get("model") != "tiny",
            (400, f"unknown parameters {set(body) - KNOWN}"): bool(set(body) - KNOWN),
            (self.server.refuses_schema, "response_format is not supported"): bool(
                shape and self.server.refuses_schema
            ),
            (400, "not a strict schema"): bool(schema) and not is_strict(schema),
        }
        return next((fault for fault, holds in faults.items() if holds), None)

    def reply(self, content, status=200, headers=None):
        text = content if isinstance(content, str) else json.dumps(content)
        self.message({"content": text}, status, headers)

    def message(self, message, status=200, headers=None):
        reply = message and {"role": "assistant", **message}
        choice = {"index": 0, "finish_reason": "stop", "message": reply}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]}
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self.send(status, json.dumps(answer), headers)

    def send(self, status, text, headers=None, kind="application/json"):
        raw = text.encode()
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args):
        """Log nothing."""


def is_strict(request: dict) -> bool:
    schema = request.get("schema")
    return request.get("strict") is True and isinstance(schema, dict) and schema.get("additionalProperties") is False


@contextmanager
def serving() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
