"""The configuration of a run on Nosana. Prefect builds the work pool's form from it."""

import fnmatch
import os
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseJobConfiguration, BaseWorkerResult
from pydantic import Field

from infra.nosana.assignment import ContainerSpec

_WITHHELD_PREFIXES = ("PREFECT_API_", "PREFECT_HOME", "PREFECT_PROFILE", "PREFECT__")
"""Prefixes of variables that lead to our Prefect server, or that only we set in the container."""


class NosanaJobConfiguration(BaseJobConfiguration):
    """The work pool's settings. None is a secret: the worker reads its secrets from its environment."""

    image: str = Field(
        default="", description="Container image for the host; when empty, the worker's NOSANA_WORKER_IMAGE."
    )
    market: str = Field(
        default="", description="Slug or address of the market to rent on; when empty, the worker's NOSANA_MARKET."
    )
    timeout_minutes: int = Field(
        default=120, ge=1, le=24 * 60, description="Longest run in minutes, after which the host stops it."
    )
    queue_limit_minutes: float = Field(default=30, gt=0, le=24 * 60, description="Longest wait for a host, in minutes.")
    required_vram: int = Field(default=8, ge=1, le=192, title="Required VRAM", description="GPU memory in gigabytes.")
    required_cuda: list[str] = Field(
        default_factory=list[str],
        title="Required CUDA",
        description="CUDA versions, one of which the host must have; any when empty.",
    )
    inherit: list[str] = Field(
        default=["RENDER_*", "ASR_BEAM_SIZE", "ASR_MODEL", "ASR_MODEL_FINAL", "MAX_SOURCE_SECONDS", "MAX_SOURCE_BYTES"],
        description="The worker's variables to pass to the container, by name or pattern; never secrets.",
    )
    poll_seconds: float = Field(default=5, ge=0.05, le=60, description="Seconds between checks of a deployment.")
    infrastructure_retries: int = Field(
        default=1, ge=0, le=3, description="How many more hosts to try when one fails before the flow begins."
    )
    max_usd_per_hour: float | None = Field(
        default=None, gt=0, description="Highest accepted market price in dollars per hour; any when empty."
    )

    def prepare_for_flow_run(self, flow_run: FlowRun, *args: Any, **kwargs: Any) -> None:
        """Prepare as usual, but drop the variables that Prefect adds, which include the worker's own settings."""
        configured = {name: value for name, value in self.env.items() if value is not None}
        super().prepare_for_flow_run(flow_run, *args, **kwargs)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.inherit) and not name.startswith("PREFECT_")
        }
        env = inherited | configured
        self.env = {name: value for name, value in env.items() if not name.startswith(_WITHHELD_PREFIXES)}

    @property
    def spec(self) -> ContainerSpec:
        return ContainerSpec(
            image=self.image,
            env={name: value for name, value in self.env.items() if value is not None},
            timeout_minutes=self.timeout_minutes,
            queue_limit_minutes=self.queue_limit_minutes,
            required_vram=self.required_vram,
            required_cuda=self.required_cuda,
        )


class NosanaWorkerResult(BaseWorkerResult):
    """`identifier` is the deployment's id, or the run's id if nothing was rented."""
