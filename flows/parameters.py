"""Validates the flows' parameters, with errors for the user. Prefect's own check would end a run with a traceback."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from infra.jobs.ids import JOB_ID
from infra.validation import describe_errors
from tasks.core.errors import BadRequest

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], value: object) -> M:
    """Return the value as an instance of `model`.

    Raises:
        BadRequest: names every invalid field.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = describe_errors(error, model).removesuffix(".")
        raise BadRequest(f"The request is invalid: {problems}.", "Correct it and run it again.") from None


def validate_job_id(job_id: object) -> str | None:
    """Return the job id, or None if it is None.

    Raises:
        BadRequest: it is not a job id.
    """
    if job_id is not None and not (isinstance(job_id, str) and JOB_ID.fullmatch(job_id)):
        raise BadRequest("job_id must be kk_ followed by 26 letters and digits.", "Leave it empty to create a new job.")
    return job_id


def validate_attempt(number: object) -> int | None:
    """Return the attempt number, or None if it is None.

    Raises:
        BadRequest: it is not an attempt number.
    """
    if number is None or (type(number) is int and number >= 1):
        return number
    raise BadRequest("attempt must be a whole number, at least 1.", "Leave it empty to run the job's next attempt.")
