"""The HTTP app: `create_app` with any services, `build` with those that the settings name."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware

from deployments.api import logs, refusals
from deployments.api.dependencies import Parts
from deployments.api.granted import llm, objects, redeem
from deployments.api.granted import prefect as granted_prefect
from deployments.api.guards import BodyLimit, Cors, Origins, Paths
from deployments.api.job_documents import Documents
from deployments.api.routes import callback, clips, create, events, health, jobs, metrics, pages
from deployments.job_reconciler import Reconciler, keep_reconciling
from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import ConfigError, StateError
from infra.jobs import schema
from infra.jobs.store import JobStore
from infra.prefect.forward import PrefectForwarder
from infra.prefect.runs import PrefectRuns, Submitter
from infra.settings import Settings

logger = logging.getLogger(__name__)

Background = Callable[[], Coroutine[Any, Any, None]]
READABLE_HEADERS = ("Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "Retry-After")
MIGRATION_RETRY_SECONDS = 5
BUCKET_ATTEMPTS = 2
"""Few: a request waits meanwhile, and its client can retry."""


def create_app(
    configured: Settings, store: JobStore, bucket: ArtifactStore, submitter: Submitter, *background: Background
) -> FastAPI:
    """The app with these services; `background` runs as long as the app."""
    prefect = PrefectForwarder(configured.prefect_api_url)

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncGenerator[None]:
        running = [asyncio.create_task(work()) for work in background]
        for task in running:
            task.add_done_callback(_report_end)
        yield
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await prefect.close()

    app = FastAPI(
        title="KangKlip",
        version="1",
        description="Turns one long video into one to five vertical clips.",
        docs_url=None,  # the interactive pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=alive,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(
                Cors,
                allow_origins=configured.cors_origins,
                allow_methods=("GET", "HEAD", "POST", "DELETE"),
                allow_headers=("*",),
                expose_headers=READABLE_HEADERS,
            ),
            Middleware(logs.RequestLog),
            Middleware(Origins, allowed=configured.cors_origins),
            Middleware(Paths),
            Middleware(BodyLimit),
        ],
    )
    app.state.parts = Parts(configured, store, bucket, submitter, Documents(bucket), prefect)
    refusals.install(app)
    for part in (create, jobs, clips, events, callback, redeem, llm, objects, granted_prefect, health, metrics, pages):
        app.include_router(part.router)
    app.openapi = lambda: _described(app)
    return app


def build(log: Path | None = None) -> FastAPI:
    """The app with the servers that the environment names; uvicorn's factory.

    Args:
        log: file for the log, or None for standard output.

    Raises:
        ConfigError: a server is not named, or a newer KangKlip wrote the records.
    """
    logs.configure(log)
    configured = settings.load()
    store = JobStore.from_settings(configured)
    if store is None:
        raise ConfigError("The API needs REDIS_URL.")
    background = [] if _is_migrated(configured) else [lambda: _migrate_later(configured)]
    runs = PrefectRuns.from_settings(configured)
    bucket = ArtifactStore.from_settings(configured, attempts=BUCKET_ATTEMPTS)
    background.append(lambda: keep_reconciling(Reconciler(store, runs)))
    return create_app(configured, store, bucket, runs, *background)


def _is_migrated(configured: Settings) -> bool:
    """Migrate the records if Redis answers, and return whether it did; startup does not depend on it."""
    try:
        schema.update(configured)
    except StateError as error:
        logger.warning("The form of the records is not known yet: %s", error)
        return False
    return True


async def _migrate_later(configured: Settings) -> None:
    """Migrate the records once Redis answers."""
    while True:
        await asyncio.sleep(MIGRATION_RETRY_SECONDS)
        if await asyncio.to_thread(_is_migrated, configured):
            return


def _report_end(task: asyncio.Task[None]) -> None:
    """Log a background task that ended unexpectedly."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("Work in the background has ended", exc_info=error)


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document without FastAPI's own 422, which no client ever receives."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    document["components"]["schemas"] = schemas = content["schema"].pop("$defs", {}) | schemas
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema
