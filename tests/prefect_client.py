"""An HTTP client of the Prefect server that repeats requests. On SQLite the server answers 503 while that is locked."""

import time

import httpx

TRIES = 20


class RetryingTransport(httpx.HTTPTransport):
    """Repeats a request after 503."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(TRIES):
            answer = super().handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            answer.close()
            time.sleep(0.3)
        return super().handle_request(request)


def prefect_client(api_url: str) -> httpx.Client:
    return httpx.Client(base_url=api_url, timeout=120, transport=RetryingTransport())
