"""Check the estimators of a group by creating them, which finds values that scikit-learn does not accept."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import ParamsError
from pipeline.estimators.catalog import is_estimator


def check_estimators(members: Mapping[str, Any]) -> None:
    """Create every estimator among the members. scikit-learn is imported only if there is one.

    members: by name, with `arch` and `options`.  Raises ParamsError, in one line, for the first that cannot be created.
    """
    for name, member in members.items():
        if is_estimator(member.arch):
            from pipeline.estimators.module import create

            try:
                create(member.arch, member.options)
            except ParamsError as error:
                raise ParamsError(f"params.yaml: cooperative.members.{name}.{error}") from None
