"""Job ids: `kk_` followed by a ULID."""

import re
from typing import Annotated
from uuid import UUID

from pydantic import Field
from ulid import ULID

JOB_ID = re.compile(r"kk_[0-9A-HJKMNP-TV-Z]{26}")
"""Use it with `fullmatch`."""
JobId = Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]


def new_job_id() -> str:
    return f"kk_{ULID()}"


def job_id_of_run(flow_run_id: str) -> str:
    """The job id of a flow run that was started without one: the same 128 bits, so a retry gets the same job."""
    return f"kk_{ULID.from_uuid(UUID(flow_run_id))}"
