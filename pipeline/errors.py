"""Errors that a user can fix. Stages print their message as one line, without a traceback."""


class UserError(Exception):
    """A mistake that the user can fix. The message is one line that names the parameter, file or row."""

    exit_code = 1


class ParamsError(UserError):
    """A parameter is missing, has a wrong type, is out of bounds, or contradicts another."""

    exit_code = 2


class DataError(UserError):
    """A file, a row or a folder of the data is missing or unusable."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 200 characters; its type if it has no message."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
