"""The one exception of the data that a person can mend."""


class DataError(ValueError):
    """What is wrong with the data, and what to do about it, in one line."""
