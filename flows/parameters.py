"""Parameters as somebody gave them: of the right form, or refused in a sentence."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from infra.faults import faults
from infra.jobs.ids import JOB_ID
from tasks.core.errors import BadRequest

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], given: object) -> M:
    """What was given as the model.

    The flows do this themselves: Prefect's own check ends a run with the traceback of a library.

    Raises:
        BadRequest: naming every field that is wrong.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        told = faults(error, model)
        raise BadRequest(
            f"The request cannot be used: {told.removesuffix('.')}.", "Correct it and run again."
        ) from None


def checked_id(job_id: object) -> str | None:
    """A job's id, or none.

    Raises:
        BadRequest: it is neither.
    """
    if job_id is not None and not (isinstance(job_id, str) and JOB_ID.fullmatch(job_id)):
        raise BadRequest("job_id must be kk_ and 26 letters and digits.", "Leave it out to make a new job.")
    return job_id


def checked_attempt(number: object) -> int | None:
    """An attempt's number, or none.

    Raises:
        BadRequest: it is neither.
    """
    if number is None or (type(number) is int and number >= 1):
        return number
    raise BadRequest("attempt must be a whole number, at least 1.", "Leave it out to run the job's next attempt.")
