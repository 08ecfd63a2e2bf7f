"""What a file may hold, checked by pydantic: JSON, ranges by name, errors in one line."""

import reprlib
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from repro.errors import reading

T = TypeVar("T")
Fraction = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(gt=0, le=1e18)]  # bytes or seconds
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
# A whole number is a float where one is expected, and nothing else is converted.
STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def read(path: Path, kind: type[T], remedy: str) -> T:
    """Return what a JSON file holds, every field checked.

    Args:
        path: The file.
        kind: Dataclass of pydantic's, or another type.
        remedy: What to do where the file is damaged.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    with reading(path, remedy):
        return parse(path.read_bytes(), kind)


def parse(text: str | bytes, kind: type[T]) -> T:
    """Return what a JSON text holds, every field checked.

    Raises:
        ValueError: It is no JSON or holds something else, in one line.
    """
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(in_one_line(error)) from error


def in_one_line(error: ValidationError) -> str:
    """Return the names that are missing, or else those that are unknown, or else the first fault.

    >>> try:
    ...     TypeAdapter(dict[str, Fraction]).validate_python({"p": 2.0})
    ... except ValidationError as error:
    ...     print(in_one_line(error))
    p is 2.0, expected less than or equal to 1
    """
    errors = error.errors(include_url=False)
    for words, kind in (("missing", "missing"), ("unknown", "unexpected_keyword_argument")):
        if names := sorted(_name(each) for each in errors if each["type"] == kind):
            return f"{words} fields: {', '.join(names)}"
    first = errors[0]
    expected = first["msg"].replace("Input should be", "expected")
    if not first["loc"]:  # of all fields together, by a check of our own, or no JSON object at all
        own = first.get("ctx", {}).get("error")
        return str(own) if isinstance(own, ValueError) else expected
    return f"{_name(first)} is {reprlib.repr(first['input'])}, {expected}"


def _name(error: ErrorDetails) -> str:
    """Return the name of a field, behind those of the fields that it is in."""
    return ".".join(map(str, error["loc"]))
