"""Exceptions for input that cannot be used and for work that failed, with the exit status of the command line."""

# Exit statuses of the command line, beside 0, and 128 plus the number of a signal (Ctrl-C 130, SIGTERM 143).
USAGE, FAILED = 2, 1


class InputError(ValueError):
    """A value from the user cannot be used.

    An option, a value of a Config, or a file or Run that is missing or of the wrong kind. The message is one line: the
    value that was given, the values that are allowed, and what to do. The command line prints this line and exits with
    ``exit_status``; in Python the exception is a ``ValueError``.

    Attributes:
        exit_status: 2: another command line is needed.

    Example:
        >>> raise InputError("restart_every=-1: must be at least 0 (0 disables restarts)")
        Traceback (most recent call last):
            ...
        vqlab.errors.InputError: restart_every=-1: must be at least 0 (0 disables restarts)
    """

    exit_status = USAGE


class WorkError(InputError):
    """What was asked for could be done, but failed.

    A training that diverged, a damaged file, a download or a storage that cannot be reached, rows of a study that
    failed.

    Attributes:
        exit_status: 1: the same command line may succeed once the reason in the message is mended.

    Example:
        >>> InputError.exit_status, WorkError.exit_status
        (2, 1)
    """

    exit_status = FAILED


class ChangedDataError(InputError):
    """The images of a Run are not those that it was trained on.

    Example:
        >>> issubclass(ChangedDataError, InputError)
        True
    """
