"""Exceptions for input that cannot be used."""


class InputError(ValueError):
    """A value from the user cannot be used.

    The message is one line: the value that was given, the values that are allowed, and what to do. The command line
    prints this line and exits with status 2; in Python the exception is a ``ValueError``.

    Example:
        >>> raise InputError("restart_every=-1: must be at least 0 (0 disables restarts)")
        Traceback (most recent call last):
            ...
        vqlab.errors.InputError: restart_every=-1: must be at least 0 (0 disables restarts)
    """


class ChangedDataError(InputError):
    """The images of a Run are not those that it was trained on.

    Example:
        >>> issubclass(ChangedDataError, InputError)
        True
    """
