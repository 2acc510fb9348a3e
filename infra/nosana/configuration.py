"""What a run on Nosana is configured with; Prefect makes the work pool's form from it."""

import fnmatch
import os
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseJobConfiguration, BaseWorkerResult
from pydantic import Field

from infra.nosana.assignment import Terms

NOT_FOR_HOSTS = ("PREFECT_API_", "PREFECT_HOME", "PREFECT_PROFILE", "PREFECT__")
"""Prefixes of variables that lead to our Prefect server, or that we set for the container ourselves."""


class NosanaJobConfiguration(BaseJobConfiguration):
    """No field takes a secret: the worker has its own from its environment."""

    image: str = Field(
        default="", description="Image that the host runs; NOSANA_WORKER_IMAGE of the worker when empty."
    )
    market: str = Field(
        default="", description="Slug or address of the market to rent on; NOSANA_MARKET of the worker when empty."
    )
    timeout_minutes: int = Field(
        default=120, ge=1, le=24 * 60, description="Longest run in minutes; the host stops it then."
    )
    queue_limit_minutes: float = Field(
        default=30, gt=0, le=24 * 60, description="How long a run may wait for a host, in minutes."
    )
    required_vram: int = Field(default=8, ge=1, le=192, title="Required VRAM", description="Gigabytes of GPU memory.")
    required_cuda: list[str] = Field(
        default_factory=list[str],
        title="Required CUDA",
        description="CUDA versions of which the host has one; any when empty.",
    )
    inherit: list[str] = Field(
        default=["RENDER_*", "ASR_BEAM_SIZE", "ASR_MODEL", "MAX_SOURCE_SECONDS", "MAX_SOURCE_BYTES"],
        description="Variables of the worker that the container gets too, by name or pattern; never secrets.",
    )
    poll_seconds: float = Field(default=5, ge=0.05, le=60, description="Seconds between two looks at a deployment.")
    infrastructure_retries: int = Field(
        default=1, ge=0, le=3, description="New deployments after a host failed before the flow had begun."
    )
    max_usd_per_hour: float | None = Field(
        default=None, gt=0, description="Highest price of the market in dollars an hour; any when empty."
    )

    def prepare_for_flow_run(self, flow_run: FlowRun, *args: Any, **kwargs: Any) -> None:
        """Prepare as usual, but without the variables that Prefect adds: the worker's own settings are among them."""
        configured = {name: value for name, value in self.env.items() if value is not None}
        super().prepare_for_flow_run(flow_run, *args, **kwargs)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.inherit) and not name.startswith("PREFECT_")
        }
        env = inherited | configured
        self.env = {name: value for name, value in env.items() if not name.startswith(NOT_FOR_HOSTS)}

    @property
    def terms(self) -> Terms:
        return Terms(
            image=self.image,
            env={name: value for name, value in self.env.items() if value is not None},
            timeout_minutes=self.timeout_minutes,
            queue_limit_minutes=self.queue_limit_minutes,
            required_vram=self.required_vram,
            required_cuda=self.required_cuda,
        )


class NosanaWorkerResult(BaseWorkerResult):
    """`identifier` is the deployment's id, or the run's if nothing was rented."""
