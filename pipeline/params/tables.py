"""Rules about tables of features, which have rows where other sources have images."""

from collections.abc import Iterator
from typing import Any

from pipeline.estimators.catalog import is_estimator
from pipeline.models.names import MLP
from pipeline.params.messages import shown

TABLES = ("table", "breast_cancer", "wine")


def tables(values: dict[str, Any], networks: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Settings that only images have.  networks: the key and the architecture of every network and member."""
    data, train = values["data"], values["train"]
    if data.source not in TABLES:
        return
    only = f"is for images, but data.source is {data.source}"
    for key, arch in networks:
        if arch not in MLP and not is_estimator(arch):
            yield f"{key}: {shown(arch)} {only}; choose one of {', '.join(MLP)}"
    wrong = {
        "data.image_size": data.image_size is not None,
        "train.pad": train.pad not in (None, 0),
        "train.flip": train.flip is True,
        "train.augment": train.augment != "none",
        "train.random_erasing": train.random_erasing > 0,
    }
    yield from (f"{key}: {only}" for key, is_set in wrong.items() if is_set)
    members = values["cooperative"].members
    for name, member in members.items() if isinstance(members, dict) else ():
        if member.copies:
            yield f"cooperative.members.{name}.copies: augmentation {only}"
