"""What a user can fix, one line and exit code 2; and the end of the time for a run."""


class UserError(ValueError):
    """What is wrong, with the offending value, and what to do about it, in one line."""


class MissingParentError(UserError):
    """A run starts from another that is not there; the message is the command that makes it."""


class DivergedError(UserError):
    """A training has left the numbers; the same code would again."""


class OutOfTimeError(Exception):
    """A run stops because time is up; the same command continues it.

    Attributes:
        lacking: How much too short the time was, s, as far as that is known.
    """

    def __init__(self, lacking: float) -> None:
        """Keep what lacked."""
        super().__init__(f"{lacking:.0f} s too short")
        self.lacking = lacking


def in_words(error: BaseException) -> str:
    """Return an error as one short line.

    >>> in_words(ValueError("no good")), in_words(KeyError())
    ('ValueError, no good', 'KeyError')
    """
    text = " ".join(str(error).split())
    return f"{type(error).__name__}, {text[:300]}" if text else type(error).__name__
