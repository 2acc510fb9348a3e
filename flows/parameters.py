"""Checks the flows' parameters, and refuses wrong ones in a sentence."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from infra.jobs.ids import JOB_ID
from infra.validation import faults
from tasks.core.errors import BadRequest

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], value: object) -> M:
    """The value as the model.

    The flows check themselves, because Prefect's check ends a run with a traceback.

    Raises:
        BadRequest: names every wrong field.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = faults(error, model)
        raise BadRequest(
            f"The request cannot be used: {found.removesuffix('.')}.", "Correct it and run again."
        ) from None


def checked_id(job_id: object) -> str | None:
    """The job id, or None.

    Raises:
        BadRequest: it is neither.
    """
    if job_id is not None and not (isinstance(job_id, str) and JOB_ID.fullmatch(job_id)):
        raise BadRequest("job_id must be kk_ and 26 letters and digits.", "Leave it out to make a new job.")
    return job_id


def checked_attempt(number: object) -> int | None:
    """The number of an attempt, or None.

    Raises:
        BadRequest: it is neither.
    """
    if number is None or (type(number) is int and number >= 1):
        return number
    raise BadRequest("attempt must be a whole number, at least 1.", "Leave it out to run the job's next attempt.")
