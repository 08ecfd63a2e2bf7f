"""The one exception a person can mend: shown as one line, exit code 2, no traceback."""


class UserError(ValueError):
    """What is wrong, with the offending value, and what to do about it, in one line."""


class MissingParentError(UserError):
    """A run starts from another that is not there; the message is the command that makes it."""
