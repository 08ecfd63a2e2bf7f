"""The one exception a person can mend: shown as one line, exit code 2, no traceback."""


class UserError(ValueError):
    """What is wrong, with the offending value, and what to do about it, in one line."""


class MissingParentError(UserError):
    """A quantised run starts from an FP32 run that is not there; the message is what makes it."""
