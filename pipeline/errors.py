"""Errors that a user can fix. Stages print their message as one line, without a traceback."""


class UserError(Exception):
    """A mistake that the user can fix. The message is one line that names the parameter, file or row."""

    exit_code = 1


class ParamsError(UserError):
    """A parameter is missing, has a wrong type, is out of bounds, or contradicts another."""

    exit_code = 2


class DataError(UserError):
    """A file, a row or a folder of the data is missing or unusable."""
