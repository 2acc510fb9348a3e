"""The HTTP app: `create_app` takes its services, `build` makes them from the settings."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware

from deployments.api import logs, refusals, tus
from deployments.api.dependencies import Services
from deployments.api.guards import BodyLimit, Cors, OriginCheck, PathNormalizer
from deployments.api.job_documents import JobDocuments
from deployments.api.rented_machine import llm, objects, redeem
from deployments.api.rented_machine import prefect as granted_prefect
from deployments.api.routes import (
    archive,
    callback,
    clips,
    create,
    edit,
    events,
    health,
    jobs,
    metrics,
    pages,
    recut,
    schemas,
    uploads,
)
from deployments.api.tus import TusProtocol
from deployments.finished_runs import FinishedRuns
from deployments.job_reconciler import Reconciler, keep_reconciling
from deployments.recut_reconciler import RecutReconciler
from deployments.upload_removal import keep_removing
from deployments.webhooks import WebhookSender, keep_sending
from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import ConfigError, StateError
from infra.jobs import schema
from infra.jobs.store import JobStore
from infra.jobs.webhooks import PendingWebhooks
from infra.prefect.forward import PrefectForwarder
from infra.prefect.runs import PrefectRuns, Submitter
from infra.settings import Settings
from infra.uploads.records import UploadRecords

logger = logging.getLogger(__name__)

Background = Callable[[], Coroutine[Any, Any, None]]
EXPOSED_HEADERS = ("Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "Retry-After")
MIGRATION_RETRY_SECONDS = 5
BUCKET_ATTEMPTS = 2
"""Few, since a request waits for them and its client can retry."""


def create_app(
    configured: Settings, store: JobStore, bucket: ArtifactStore, submitter: Submitter, *background: Background
) -> FastAPI:
    """The app with these services; `background` runs as long as the app does."""
    prefect = PrefectForwarder(configured.prefect_api_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        running = [asyncio.create_task(work()) for work in background]
        for task in running:
            task.add_done_callback(_log_failure)
        yield
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await prefect.close()

    app = FastAPI(
        title="KangKlip",
        version="1",
        description="Turns one long video into one to five vertical clips.",
        docs_url=None,  # the interactive docs load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(
                Cors,
                allow_origins=configured.cors_origins,
                allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
                allow_headers=("*",),
                expose_headers=(*EXPOSED_HEADERS, *tus.HEADERS),
            ),
            Middleware(logs.RequestLog),
            Middleware(TusProtocol),
            Middleware(OriginCheck, allowed=configured.cors_origins),
            Middleware(PathNormalizer),
            Middleware(BodyLimit),
        ],
    )
    app.state.services = Services(configured, store, bucket, submitter, JobDocuments(bucket), prefect)
    refusals.install(app)
    public = (create, jobs, archive, clips, edit, recut, uploads, events, schemas, callback, health, metrics, pages)
    for_sessions = (redeem, llm, objects, granted_prefect)
    for module in (*public, *for_sessions):
        app.include_router(module.router)
    app.openapi = lambda: _openapi(app)
    return app


def build(log: Path | None = None) -> FastAPI:
    """The app with the servers named in the environment; uvicorn calls it as a factory.

    Args:
        log: file to log to, or None for standard output.

    Raises:
        ConfigError: a server is not configured, or a newer KangKlip wrote the records.
    """
    logs.configure(log)
    configured = settings.load()
    store = JobStore.from_settings(configured)
    if store is None:
        raise ConfigError("The API needs REDIS_URL.")
    background = [] if _migrate(configured) else [lambda: _keep_migrating(configured)]
    runs = PrefectRuns.from_settings(configured)
    bucket = ArtifactStore.from_settings(configured, attempts=BUCKET_ATTEMPTS)
    background.append(lambda: keep_reconciling(Reconciler(store, runs)))
    background.append(lambda: keep_reconciling(RecutReconciler(store, runs, bucket)))
    background.append(lambda: keep_reconciling(FinishedRuns(store, runs)))
    background.append(lambda: keep_removing(UploadRecords(store.connection), bucket))
    if sender := WebhookSender.from_settings(PendingWebhooks(store.connection), configured):
        background.append(lambda: keep_sending(sender))
    return create_app(configured, store, bucket, runs, *background)


def _migrate(configured: Settings) -> bool:
    """Migrate the records; return False if Redis does not answer, which must not prevent startup."""
    try:
        schema.update(configured)
    except StateError as error:
        logger.warning("The records could not be migrated yet: %s", error)
        return False
    return True


async def _keep_migrating(configured: Settings) -> None:
    """Retry the migration until Redis answers."""
    while True:
        await asyncio.sleep(MIGRATION_RETRY_SECONDS)
        if await asyncio.to_thread(_migrate, configured):
            return


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log the exception of a background task."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("A background task has failed", exc_info=error)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document without FastAPI's default 422, which this API never returns in that form."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        for operations in document["paths"].values():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    document["components"]["schemas"] = schemas = content["schema"].pop("$defs", {}) | schemas
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema
