"""Calls a chat model through litellm, which is imported only if a model is configured."""

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr

from tasks.core.choice.prompting import Answer, InvalidAnswer, Offer, Pick, messages, read_answer

GEMINI_HOST = "generativelanguage.googleapis.com"
RETRY_AFTER_SECONDS = 2.0
"""Wait after a 429 without Retry-After."""

REFUSES_SCHEMA = (400, 415, 422, 500, 501)
"""Statuses with which servers reject a `response_format` that they do not support."""


class LlmOptions(BaseModel):
    """The model, its address, and the time limit in seconds, retries included."""

    model: str = Field(min_length=1)
    api_base: str | None = None
    api_key: SecretStr | None = None
    timeout_seconds: float = Field(default=20.0, gt=0)


class LlmFailed(Exception):
    """There is no usable answer. The message names the cause without secrets or text from the server."""


class Llm:
    """A chat model. The constructor imports litellm, so the seconds that takes do not count against the timeout."""

    def __init__(self, options: LlmOptions) -> None:
        self.options = options
        self.model = model_name(options.model, options.api_base)
        self.endpoint = endpoint_of(options.api_base)
        self.dropped: list[str] = []
        self._litellm = _litellm()

    def rerank(self, offers: Sequence[Offer], count: int, topic: str | None = None) -> list[Pick]:
        """The best `count` offers, preferably about the topic, with titles, or fewer if fewer picks are valid.

        Afterwards, `dropped` lists what was dropped from the answer.

        Raises:
            LlmFailed: with the cause, by the timeout at the latest.
        """
        text = self._ask(messages(offers, count, topic))
        try:
            reading = read_answer(text, offers, count)
        except InvalidAnswer as error:
            raise LlmFailed(str(error)) from None
        self.dropped = reading.dropped
        return reading.picks

    def _ask(self, chat: list[dict[str, str]]) -> str:
        """The model's answer. The call runs in a thread that is abandoned at the deadline."""
        outcome: list[str | Exception] = []

        def work() -> None:
            try:
                outcome.append(asyncio.run(asyncio.wait_for(self._converse(chat), self.options.timeout_seconds)))
            except Exception as error:  # noqa: BLE001 whatever litellm raises must reach the caller as a cause
                outcome.append(error)

        thread = threading.Thread(target=work, name="llm", daemon=True)
        thread.start()
        thread.join(self.options.timeout_seconds + 1.0)
        if not outcome or isinstance(outcome[0], TimeoutError):
            raise LlmFailed(f"the LLM did not answer within {self.options.timeout_seconds:g} s")
        if isinstance(outcome[0], LlmFailed):
            raise outcome[0]
        if isinstance(outcome[0], Exception):
            raise LlmFailed(_cause(outcome[0])) from None
        return outcome[0]

    async def _converse(self, chat: list[dict[str, str]]) -> str:
        """One answer: retries once after a 429, and without the schema if the server rejects it."""
        litellm = self._litellm
        deadline = time.monotonic() + self.options.timeout_seconds
        schema: type[BaseModel] | None = Answer
        waited = False
        while True:
            try:
                reply = await litellm.acompletion(**self._request(chat, schema, deadline - time.monotonic()))
            except litellm.RateLimitError as error:
                pause = _retry_after(error)
                if waited or time.monotonic() + pause >= deadline:
                    raise
                waited = True
                await asyncio.sleep(pause)
            except Exception as error:
                if schema is None or not _refuses_schema(error):
                    raise
                schema = None
            else:
                if reply is None and schema is not None:  # litellm's result for a 422
                    schema = None
                    continue
                return _content(reply)

    def _request(self, chat: list[dict[str, str]], schema: type[BaseModel] | None, seconds: float) -> dict[str, Any]:
        key = self.options.api_key
        request: dict[str, Any] = {
            "model": self.model,
            "messages": chat,
            "timeout": max(seconds, 0.1),
            "num_retries": 0,
            "max_retries": 0,
            "api_key": key.get_secret_value() if key is not None else "none",
        }
        if self.options.api_base is not None and not self.model.startswith("gemini/"):
            request["api_base"] = _without_credentials(self.options.api_base)
        if schema is not None:
            request["response_format"] = schema
        return request


def model_name(model: str, api_base: str | None) -> str:
    """litellm's name for a model. A bare name means Gemini at Gemini's address, else an OpenAI-compatible server."""
    if api_base is None:
        return model
    if urlsplit(api_base).hostname == GEMINI_HOST:
        return model if model.startswith("gemini/") else f"gemini/{model}"
    return model if "/" in model else f"openai/{model}"


def endpoint_of(api_base: str | None) -> str | None:
    """Host and port of an address, without user, password or path."""
    if api_base is None:
        return None
    parts = urlsplit(api_base)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname


def _without_credentials(api_base: str) -> str:
    """The address without user and password: HTTP allows only one authorization, and the key is it."""
    parts = urlsplit(api_base)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm  # noqa: PLC0415 seconds to import, and only some jobs use it

    litellm.suppress_debug_info = True
    litellm.drop_params = True
    return litellm


def _content(reply: Any) -> str:
    """The text of an answer: its content, or the arguments of its first tool call."""
    message = reply.choices[0].message if reply and reply.choices else None
    if getattr(message, "refusal", None):
        raise LlmFailed("the LLM refused to answer")
    text = _as_text(getattr(message, "content", None))
    if not text.strip():
        calls = getattr(message, "tool_calls", None) or []
        text = _as_text(getattr(getattr(calls[0], "function", None), "arguments", None)) if calls else ""
    if not text.strip():
        raise LlmFailed("the LLM's answer was empty")
    return text


def _as_text(content: Any) -> str:
    """Content as text, concatenated if it comes in parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _retry_after(error: Exception) -> float:
    """Seconds to wait according to Retry-After, which is a number or a date (RFC 9110, 10.2.3)."""
    header = (getattr(error, "litellm_response_headers", None) or {}).get("retry-after", "")
    if header.strip().isdigit():
        return float(header)
    try:
        return max((parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return RETRY_AFTER_SECONDS


def _refuses_schema(error: BaseException | None) -> bool:
    """Whether the server rejected the schema; litellm's error may wrap the server's."""
    while error is not None:
        if getattr(error, "status_code", None) in REFUSES_SCHEMA:
            return True
        error = error.__cause__ or error.__context__
    return False


def _cause(error: Exception) -> str:
    """The kind of failure in our words, because the library's text may contain the request."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError):
            return f"the LLM cannot be reached ({type(link).__name__})"
        link = link.__cause__ or link.__context__
    status = getattr(error, "status_code", None)
    return f"the LLM call failed with {type(error).__name__}" + (f" (status {status})" if status else "")
