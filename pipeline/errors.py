"""Errors that a user can fix. Stages print their message as one line, without a traceback."""

import errno
from typing import Any

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
    """A mistake that the user can fix. The message is one line that names the parameter, file or row."""

    exit_code = 1


class ParamsError(UserError):
    """A parameter is missing, has a wrong type, is out of bounds, or contradicts another."""

    exit_code = 2


class DataError(UserError):
    """A file, a row or a folder of the data is missing or unusable."""


class Diverged(UserError):
    """The loss of a network is not finite.  at: network, term, leg, epoch and step of the first such value."""

    def __init__(self, **at: Any):
        self.at = at
        where = ", ".join(f"{key} {value}" for key, value in at.items())
        super().__init__(
            f"the loss is not finite: {where}; lower train.lr, set train.clip_grad_norm, or lower the weight of this "
            f"loss (dgkd.normalise: mean)"
        )


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that the disk is full, or a quota used up.

    shutil and libraries written in Rust (Polars, safetensors) give the error number only within their message.
    """
    texts = [text for code in DISK_FULL for text in (f"[Errno {code}]", f"(os error {code})")]
    return getattr(error, "errno", None) in DISK_FULL or any(text in str(error) for text in texts)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 200 characters; its type if it has no message."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
