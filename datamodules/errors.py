"""The one exception of the data that a user can fix."""


class DataError(ValueError):
    """What is wrong with the data, and what to do about it, in one line."""
