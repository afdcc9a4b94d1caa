"""Mistakes of a user's, each said in one line; no stage shows a traceback for one."""


class UserError(Exception):
    """A mistake that the user can mend. The message is one line naming the key, file or row."""

    exit_code = 1


class ParamsError(UserError):
    """A parameter is missing, mistyped, out of bounds or contradicts another."""

    exit_code = 2


class DataError(UserError):
    """A file, row or folder of the data is missing or unusable."""
