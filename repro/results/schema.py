"""What a field of a file may hold, checked by pydantic: ranges by name, errors in one line."""

from typing import Annotated, Final

from pydantic import ConfigDict, Field, ValidationError

Fraction = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0)]  # bytes or seconds
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
# A whole number is a float where one is expected, and nothing else is converted.
STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def in_one_line(error: ValidationError) -> str:
    """Return the names that are missing, or else those that are unknown, or else the first fault.

    >>> from pydantic import TypeAdapter
    >>> try:
    ...     TypeAdapter(dict[str, Fraction]).validate_python({"p": 2.0})
    ... except ValidationError as error:
    ...     print(in_one_line(error))
    p is 2.0, expected less than or equal to 1
    """
    errors = error.errors(include_url=False)
    for words, kind in (("missing", "missing"), ("unknown", "unexpected_keyword_argument")):
        if names := sorted(str(each["loc"][0]) for each in errors if each["type"] == kind):
            return f"{words} fields: {', '.join(names)}"
    first = errors[0]
    if not first["loc"]:  # of all fields together, by a check of our own
        return str(first["ctx"]["error"])
    name = ".".join(map(str, first["loc"]))
    return f"{name} is {first['input']!r}, {first['msg'].replace('Input should be', 'expected')}"
