"""What a user can fix, one line and exit code 2; and the end of the time for a run."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, or what a user may have of it
LONGEST: Final = 1_500  # characters of a line; words that a user gave may be longer
ADVICE: Final = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file",
    errno.ENXIO: "let something read the pipe first",
    errno.EACCES: "check who may read and write it",
    errno.EPERM: "check who may read and write it",
    errno.EROFS: "choose a folder that can be written",
    **dict.fromkeys(FULL, "make room"),
}


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


def one_line(error: BaseException) -> str:
    """Return what a user reads of an error that they can fix."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = of_file(error, error.filename or "a file")
    return visible(text if len(text) < LONGEST else f"{text[:500]} ... {text[-500:]}")


def of_file(error: OSError, file: object, advice: str = "") -> str:
    """Return the file, why it cannot be read or written, and what to do about that.

    >>> of_file(FileNotFoundError(errno.ENOENT, "No such file or directory"), "runs/a")
    'runs/a: No such file or directory: check the path'
    """
    advice = advice or ADVICE.get(error.errno or 0, "check the file and its folder")
    return f"{file}: {error.strerror or error}: {advice}"


def visible(text: str) -> str:
    r"""Return a text in one line, in which a terminal shows control codes and obeys none.

    >>> print(visible("\x1b[2Jred\nand \u202egreen"))
    \x1b[2Jred\nand \u202egreen
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def reading(path: Path, remedy: str, *more: type[Exception]) -> Iterator[None]:
    """Turn what is wrong with a file that is read into a UserError: file, reason, what to do.

    Args:
        path: The file.
        remedy: What to do.
        more: Kinds of exceptions that say so, beside OSError and ValueError.
    """
    wrong: tuple[type[Exception], ...] = (ValueError, RecursionError, *more)
    try:
        yield
    except UserError:  # says more
        raise
    except OSError as error:
        raise UserError(of_file(error, error.filename or path, remedy)) from error
    except wrong as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{path}: {reason}: {remedy}") from error
