"""The one exception that means "the input was wrong", told in one line."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, why and what to do.

    The command line prints it as one line and exits with status 2; in Python it is an
    ordinary ``ValueError``.
    """
