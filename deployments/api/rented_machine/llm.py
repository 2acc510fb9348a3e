"""POST /api/worker/llm/chat/completions: proxies LLM calls from rented machines, with our key and a call budget.

Requests and answers are rebuilt from the fields that the flow uses, because a rented machine is an untrusted host,
and a provider's answer may contain a key.
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

from deployments.api.dependencies import ServicesDep
from deployments.api.guards import JsonBody
from deployments.api.models import NO_SESSION, NO_STORE, TOO_LARGE, TOO_SLOW, body_of, refusals
from deployments.api.rented_machine.session import SLOW_DOWN, ActiveSession
from infra.errors import ConfigError
from infra.settings import Settings

logger = logging.getLogger(__name__)
router = APIRouter()

NO_LLM = (404, "no LLM is available to rented machines")
MALFORMED = (400, "messages are malformed")
REFUSED = (400, "the LLM refused the request")
USED_UP = (403, "the run has used up its LLM calls")
BUSY = (429, "the LLM is busy; try again later")
NO_ANSWER = (502, "the LLM gave no valid answer")

MAX_MESSAGE_CHARS = 200_000
"""Maximum characters in all messages of a call: five times what the flow sends."""
MAX_SCHEMA_CHARS = 20_000
ANSWER_TOKENS = 8192
"""Maximum tokens in an answer: eight times what ten clips take, since reasoning counts too."""
ANSWER_BYTES = 1024 * 1024
OPENAI_BASE = "https://api.openai.com/v1"
GEMINI_HOST = "generativelanguage.googleapis.com"
GEMINI_BASE = f"https://{GEMINI_HOST}/v1beta/openai"
"""Google's OpenAI-compatible address."""
COMPATIBLE = {
    "openai", "custom_openai", "hosted_vllm", "litellm_proxy", "lm_studio", "openrouter", "groq", "mistral",
    "deepseek", "together_ai", "fireworks_ai", "deepinfra", "cerebras", "xai",
}  # fmt: skip
"""Providers with an OpenAI-compatible API, by litellm name."""


@dataclass(frozen=True)
class LlmEndpoint:
    """Where calls go, and the model's name there."""

    url: str
    model: str


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class ResponseFormat(BaseModel):
    """The requested format of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class ChatRequest(BaseModel):
    """A call in the format of OpenAI's API. Other fields are ignored, including the model, which this service sets."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=20)]
    response_format: ResponseFormat | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, description=f"At most {ANSWER_TOKENS} are used.")] | None = None
    seed: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None


class AnswerChoice(BaseModel):
    index: Literal[0] = 0
    message: AnswerMessage
    finish_reason: Annotated[str, Field(pattern=r"^[A-Za-z_]{1,40}$")] | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Completion(BaseModel):
    """An answer in the format of OpenAI's API, with exactly one choice."""

    id: Annotated[str, Field(max_length=200)] = ""
    object: Literal["chat.completion"] = "chat.completion"
    created: int = 0
    model: str = ""
    choices: Annotated[list[AnswerChoice], Field(min_length=1, max_length=1)]
    usage: Usage | None = None


def llm_model_for_granted(settings: Settings) -> str | None:
    """The model that rented machines may call, or None. A misconfiguration is logged."""
    if settings.llm_model_name is None or not settings.grant_llm_calls:
        return None
    try:
        return llm_endpoint(settings).model
    except ConfigError as error:
        logger.warning("Rented machines cannot use the LLM: %s", error)
        return None


def llm_endpoint(settings: Settings) -> LlmEndpoint:
    """The configured endpoint, from settings that are read as the flow reads them.

    Raises:
        ConfigError: the settings name no endpoint with an OpenAI-compatible API.
    """
    name, base = settings.llm_model_name or "", settings.llm_api_base
    provider, model = name.split("/", 1) if "/" in name else ("", name)
    if provider == "gemini" or (base and urlsplit(base).hostname == GEMINI_HOST):
        return LlmEndpoint(f"{GEMINI_BASE}/chat/completions", model if provider in ("gemini", "openai") else name)
    if not provider and base is None:
        raise ConfigError("LLM_MODEL_NAME names no provider; write openai/NAME, or set LLM_API_BASE.")
    if provider and provider not in COMPATIBLE:
        raise ConfigError("LLM_MODEL_NAME names a provider without an OpenAI-compatible API; choose another.")
    if base is None and provider != "openai":
        raise ConfigError("LLM_MODEL_NAME names a provider whose address is unknown; set LLM_API_BASE.")
    return LlmEndpoint(_completions(base or OPENAI_BASE), model)


def _completions(base: str) -> str:
    """The address for calls, without user and password: the key authenticates them."""
    address = urlsplit(base)
    path = f"{address.path.rstrip('/')}/chat/completions"
    return address._replace(netloc=address.netloc.rpartition("@")[2], path=path).geturl()


@router.post(
    "/api/worker/llm/chat/completions",
    summary="Call the LLM",
    responses=refusals(
        MALFORMED, REFUSED, NO_SESSION, USED_UP, NO_LLM, TOO_SLOW, TOO_LARGE, SLOW_DOWN, BUSY, NO_ANSWER, NO_STORE
    ),
    openapi_extra=body_of(ChatRequest),
)
async def call_llm(session: ActiveSession, body: JsonBody, services: ServicesDep) -> Completion:
    """OpenAI's API for a rented machine, with the session token as API key. Streaming is not supported."""
    if session.revision is not None or llm_model_for_granted(services.settings) is None:
        raise HTTPException(*NO_LLM)
    endpoint = llm_endpoint(services.settings)
    content = _rebuilt_request(body, endpoint)
    if await to_thread.run_sync(services.sessions.count_use, session, "llm") > services.settings.grant_llm_calls:
        raise HTTPException(*USED_UP)
    return _parse_answer(await _call(endpoint, content, services.settings), endpoint)


def _rebuilt_request(body: dict[str, Any], endpoint: LlmEndpoint) -> bytes:
    """The request to forward: only known fields, within limits.

    Raises:
        HTTPException: 400 if the request is malformed.
    """
    try:
        chat = ChatRequest.model_validate(body)
        response_format = json.dumps(chat.model_dump(include={"response_format"}, exclude_unset=True), allow_nan=False)
        message_chars = sum(len(message.content) for message in chat.messages)
        if message_chars > MAX_MESSAGE_CHARS or len(response_format) > MAX_SCHEMA_CHARS:
            raise HTTPException(*MALFORMED)
        # OpenAI's newer models reject max_tokens; other servers reject its replacement.
        limit_name = "max_completion_tokens" if endpoint.url.startswith(OPENAI_BASE) else "max_tokens"
        fixed = {"model": endpoint.model, limit_name: min(chat.max_tokens or ANSWER_TOKENS, ANSWER_TOKENS)}
        fields = chat.model_dump(exclude_unset=True, exclude={"max_tokens"})
        return json.dumps({name: value for name, value in fields.items() if value is not None} | fixed).encode()
    except (ValueError, RecursionError):
        raise HTTPException(*MALFORMED) from None


async def _call(endpoint: LlmEndpoint, content: bytes, settings: Settings) -> bytes:
    """The body of the provider's answer.

    Raises:
        HTTPException: 400 if the provider rejects the request, 429 if it is busy, otherwise 502; never in its words.
    """
    seconds, key = settings.llm_timeout_seconds, settings.llm_api_key
    headers = {b"content-type": b"application/json", b"accept-encoding": b"identity"}
    if key is not None:
        headers[b"authorization"] = b"Bearer " + key.get_secret_value().encode()
    try:
        with anyio.fail_after(seconds):
            async with (
                httpx.AsyncClient(timeout=seconds) as client,
                client.stream("POST", endpoint.url, content=content, headers=headers) as answer,
            ):
                _check_status(answer)
                return await _read_body(answer)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        logger.warning("The LLM did not answer a rented machine: %s", type(error).__name__)
        raise HTTPException(*NO_ANSWER) from None


_REQUEST_REFUSED = {
    httpx.codes.BAD_REQUEST,
    httpx.codes.UNSUPPORTED_MEDIA_TYPE,
    httpx.codes.UNPROCESSABLE_ENTITY,
    httpx.codes.NOT_IMPLEMENTED,
}
"""Statuses with which servers reject a request's format, usually its `response_format`."""


def _check_status(answer: httpx.Response) -> None:
    if answer.status_code == httpx.codes.OK:
        return
    logger.warning("The LLM answered a rented machine with status %d", answer.status_code)
    if answer.status_code in _REQUEST_REFUSED:
        raise HTTPException(*REFUSED)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        pause = answer.headers.get("retry-after", "")
        raise HTTPException(*BUSY, headers={"Retry-After": pause} if re.fullmatch(r"[0-9]{1,6}", pause) else None)
    raise HTTPException(*NO_ANSWER)


async def _read_body(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise HTTPException(*NO_ANSWER)
    return bytes(body)


def _parse_answer(body: bytes, endpoint: LlmEndpoint) -> Completion:
    try:
        return Completion.model_validate_json(body).model_copy(update={"model": endpoint.model})
    except ValidationError:
        logger.warning("The LLM's answer to a rented machine was malformed")
        raise HTTPException(*NO_ANSWER) from None
