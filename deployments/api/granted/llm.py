"""POST /api/worker/llm/chat/completions: LLM calls from rented machines, with our key and within a budget.

Request and answer are rebuilt from the fields that the flow uses: the provider's text may contain a key, and a
rented machine is an untrusted host.
"""

import json
import logging
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import anyio
import httpx
from anyio import to_thread
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, ValidationError

from deployments.api.dependencies import Given
from deployments.api.granted.session import SLOW_DOWN, Working
from deployments.api.guards import Body
from deployments.api.models import NO_SESSION, NO_STORE, TOO_LARGE, TOO_SLOW, body_of, refusals
from infra.errors import ConfigError
from infra.settings import Settings

logger = logging.getLogger(__name__)
router = APIRouter()

NO_LLM = (404, "this service has no LLM for rented machines")
MALFORMED = (400, "messages are malformed")
REFUSED = (400, "the LLM refused the request")
USED_UP = (403, "the run's LLM calls are used up")
BUSY = (429, "the LLM is busy; try again later")
NO_ANSWER = (502, "the LLM did not answer as it should")

MAX_MESSAGE_CHARS = 200_000
"""Most characters in all messages of a call: five times what the flow sends."""
SCHEMA_LETTERS = 20_000
ANSWER_TOKENS = 8192
"""Most tokens in an answer: eight times what ten clips take; reasoning models count their reasoning."""
ANSWER_BYTES = 1024 * 1024
OPENAI_BASE = "https://api.openai.com/v1"
GEMINI_HOST = "generativelanguage.googleapis.com"
GEMINI_BASE = f"https://{GEMINI_HOST}/v1beta/openai"
"""Google's OpenAI-compatible address."""
COMPATIBLE = {
    "openai", "custom_openai", "hosted_vllm", "litellm_proxy", "lm_studio", "openrouter", "groq", "mistral",
    "deepseek", "together_ai", "fireworks_ai", "deepinfra", "cerebras", "xai",
}  # fmt: skip
"""Providers, by their litellm names, with an OpenAI-compatible API."""


@dataclass(frozen=True)
class Upstream:
    """The address of the calls, and the model's name there."""

    url: str
    model: str


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class Shape(BaseModel):
    """How the answer is to be formed."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class Chat(BaseModel):
    """A call, as OpenAI's API takes it. Other fields are ignored, and so is the model: it is this service's."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=20)]
    response_format: Shape | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, description=f"{ANSWER_TOKENS} at most.")] | None = None
    seed: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None


class Said(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None


class Choice(BaseModel):
    index: Literal[0] = 0
    message: Said
    finish_reason: Annotated[str, Field(pattern=r"^[A-Za-z_]{1,40}$")] | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Completion(BaseModel):
    """An answer, of which there is one."""

    id: Annotated[str, Field(max_length=200)] = ""
    object: Literal["chat.completion"] = "chat.completion"
    created: int = 0
    model: str = ""
    choices: Annotated[list[Choice], Field(min_length=1, max_length=1)]
    usage: Usage | None = None


def llm_model_for_granted(settings: Settings) -> str | None:
    """The model that rented machines may call, or None, with the reason logged, if they get none."""
    if settings.llm_model_name is None or not settings.grant_llm_calls:
        return None
    try:
        return upstream_of(settings).model
    except ConfigError as error:
        logger.warning("Rented machines get no LLM: %s", error)
        return None


def upstream_of(settings: Settings) -> Upstream:
    """The upstream that the settings name, parsed as the flow parses them.

    Raises:
        ConfigError: they name none with an OpenAI-compatible API.
    """
    name, base = settings.llm_model_name or "", settings.llm_api_base
    provider, model = name.split("/", 1) if "/" in name else ("", name)
    if provider == "gemini" or (base and urlsplit(base).hostname == GEMINI_HOST):
        return Upstream(f"{GEMINI_BASE}/chat/completions", model if provider in ("gemini", "openai") else name)
    if not provider and base is None:
        raise ConfigError("LLM_MODEL_NAME names no provider; write openai/NAME, or set LLM_API_BASE.")
    if provider and provider not in COMPATIBLE:
        raise ConfigError("LLM_MODEL_NAME names a provider that does not answer as OpenAI does; choose another one.")
    if base is None and provider != "openai":
        raise ConfigError("LLM_MODEL_NAME names a provider whose address is not known; set LLM_API_BASE.")
    return Upstream(_completions(base or OPENAI_BASE), model)


def _completions(base: str) -> str:
    """The address of the calls, without user and password: the key authenticates them."""
    parts = urlsplit(base)
    path = f"{parts.path.rstrip('/')}/chat/completions"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path).geturl()


@router.post(
    "/api/worker/llm/chat/completions",
    summary="Ask the LLM",
    responses=refusals(
        MALFORMED, REFUSED, NO_SESSION, USED_UP, NO_LLM, TOO_SLOW, TOO_LARGE, SLOW_DOWN, BUSY, NO_ANSWER, NO_STORE
    ),
    openapi_extra=body_of(Chat),
)
async def ask_llm(session: Working, body: Body, parts: Given) -> Completion:
    """For a rented machine, as OpenAI's API, with the session's token as its key. Nothing is streamed."""
    if llm_model_for_granted(parts.settings) is None:
        raise HTTPException(*NO_LLM)
    upstream = upstream_of(parts.settings)
    content = _made_anew(body, upstream)
    if await to_thread.run_sync(parts.sessions.count_use, session, "llm") > parts.settings.grant_llm_calls:
        raise HTTPException(*USED_UP)
    return _answer(await _ask(upstream, content, parts.settings), upstream)


def _made_anew(body: dict[str, Any], upstream: Upstream) -> bytes:
    """The call to send on: only known fields, within bounds.

    Raises:
        HTTPException: 400 if it is malformed.
    """
    try:
        chat = Chat.model_validate(body)
        shape = json.dumps(chat.model_dump(include={"response_format"}, exclude_unset=True), allow_nan=False)
        if sum(len(message.content) for message in chat.messages) > MAX_MESSAGE_CHARS or len(shape) > SCHEMA_LETTERS:
            raise HTTPException(*MALFORMED)
        # OpenAI's newer models refuse max_tokens; other servers refuse its newer name.
        longest = "max_completion_tokens" if upstream.url.startswith(OPENAI_BASE) else "max_tokens"
        named = {"model": upstream.model, longest: min(chat.max_tokens or ANSWER_TOKENS, ANSWER_TOKENS)}
        fields = chat.model_dump(exclude_unset=True, exclude={"max_tokens"})
        return json.dumps({name: value for name, value in fields.items() if value is not None} | named).encode()
    except (ValueError, RecursionError):
        raise HTTPException(*MALFORMED) from None


async def _ask(upstream: Upstream, content: bytes, settings: Settings) -> bytes:
    """The body of the provider's answer.

    Raises:
        HTTPException: 400 for a refused request and 429 if busy, both in our words; otherwise 502.
    """
    seconds, key = settings.llm_timeout_seconds, settings.llm_api_key
    headers = {b"content-type": b"application/json", b"accept-encoding": b"identity"}
    if key is not None:
        headers[b"authorization"] = b"Bearer " + key.get_secret_value().encode()
    try:
        with anyio.fail_after(seconds):
            async with (
                httpx.AsyncClient(timeout=seconds) as client,
                client.stream("POST", upstream.url, content=content, headers=headers) as answer,
            ):
                _check(answer)
                return await _read(answer)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        logger.warning("The LLM did not answer a rented machine: %s", type(error).__name__)
        raise HTTPException(*NO_ANSWER) from None


_REQUEST_REFUSED = {
    httpx.codes.BAD_REQUEST,
    httpx.codes.UNSUPPORTED_MEDIA_TYPE,
    httpx.codes.UNPROCESSABLE_ENTITY,
    httpx.codes.NOT_IMPLEMENTED,
}
"""Statuses with which servers refuse a request's form, mostly its `response_format`."""


def _check(answer: httpx.Response) -> None:
    if answer.status_code == httpx.codes.OK:
        return
    logger.warning("The LLM answered a rented machine with status %d", answer.status_code)
    if answer.status_code in _REQUEST_REFUSED:
        raise HTTPException(*REFUSED)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        pause = answer.headers.get("retry-after", "")
        raise HTTPException(*BUSY, headers={"Retry-After": pause} if re.fullmatch(r"[0-9]{1,6}", pause) else None)
    raise HTTPException(*NO_ANSWER)


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise HTTPException(*NO_ANSWER)
    return bytes(body)


def _answer(body: bytes, upstream: Upstream) -> Completion:
    try:
        return Completion.model_validate_json(body).model_copy(update={"model": upstream.model})
    except ValidationError:
        logger.warning("The LLM's answer to a rented machine was malformed")
        raise HTTPException(*NO_ANSWER) from None
