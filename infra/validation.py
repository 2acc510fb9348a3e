"""Turns pydantic's validation errors into sentences for the user."""

from collections.abc import Callable
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}
_NOT_NONE = "none_required"
"""Reported along with the fault of a value that could also be None."""
_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "does not have the right form",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} characters",
}


def describe_errors(error: ValidationError, model: type[BaseModel], name: Callable[[str], str] = str) -> str:
    """All errors in one line: each field with what it must be or look like.

    Values are left out, because they may be secrets.

    Args:
        model: the validated model. Its fields have the bounds and examples.
        name: maps a field's name or alias to the name that the user knows.
    """
    found = [fault for fault in error.errors(include_url=False, include_input=False) if fault["type"] != _NOT_NONE]
    return "; ".join(dict.fromkeys(_sentence(fault, model, name) for fault in found))


def _sentence(fault: ErrorDetails, model: type[BaseModel], name: Callable[[str], str]) -> str:
    if not fault["loc"]:
        return _custom_message(fault)
    at = str(fault["loc"][0])
    return f"{name(at)} {_requirement(fault, _field(model, at))}"


def _field(model: type[BaseModel], at: str) -> FieldInfo | None:
    return next((field for name, field in model.model_fields.items() if at in (name, field.validation_alias)), None)


def _requirement(fault: ErrorDetails, field: FieldInfo | None) -> str:
    """The rest of the sentence that starts with the field's name."""
    kind = fault["type"]
    if kind == "value_error":
        return _custom_message(fault)
    if kind == "string_pattern_mismatch" and field and field.examples:
        return f"must look like {field.examples[0]}"
    if kind in _WORDS:
        return _WORDS[kind].format(**fault.get("ctx", {})).replace("'", "")
    number = _number(kind, field)
    return f"must be {number}" if number else f"cannot be used ({fault['msg'][0].lower()}{fault['msg'][1:]})"


def _number(kind: str, field: FieldInfo | None) -> str:
    """The type and bounds of the field: "a whole number from 1 to 5"."""
    annotated = str(field.annotation) if field else ""
    sort = next((words for name, words in _KINDS.items() if kind.startswith(f"{name}_")), "")
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        sort = "a whole number" if "int" in annotated else "a number"
    if not sort.endswith("number") or field is None:
        return sort
    low, high = _bound(field, "ge", "gt"), _bound(field, "le", "lt")
    if low is None and high is None:
        return sort
    if high is None:
        return f"{sort}, at least {low}"
    return f"{sort}, at most {high}" if low is None else f"{sort} from {low} to {high}"


def _bound(field: FieldInfo, *names: str) -> float | None:
    """The first of the named limits on the field's value, also if the field may be None."""
    kinds = [FieldInfo.from_annotation(kind) for kind in get_args(field.annotation)]
    limits = [limit for each in (field, *kinds) for limit in each.metadata]
    return next((getattr(limit, name) for limit in limits for name in names if hasattr(limit, name)), None)


def _custom_message(fault: ErrorDetails) -> str:
    """The message of one of our validators, without pydantic's prefix."""
    return fault["msg"].removeprefix("Value error, ")
