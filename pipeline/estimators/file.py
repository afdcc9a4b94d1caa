"""Fitted estimators as bytes in the format of skops, which are read without executing anything.

Pickle runs any code that a file names. skops builds only objects of types that its reader trusts: scikit-learn's public
estimators, NumPy's arrays and plain values, and here the trees of forests and of boosting. scikit-learn follows the
numbers of nodes within a tree without checking them, so trees are checked before they are used.

skops names its parts by memory addresses and dates them. `to_bytes` numbers them instead, so that two fits that are
equal are equal in every byte.
"""

import io
import json
import warnings
import zipfile
from types import ModuleType
from typing import Any

import numpy as np

from pipeline.errors import DataError, UserError, first_line
from pipeline.estimators.catalog import PREFIX, module_of, sources

SCHEMA = "schema.json"  # of skops
CONTENT = "skops"  # key of the state of an estimator in training: the content of its file, [bytes] uint8
TREE = "sklearn.tree._tree.Tree"
BOOSTED_TREE = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
TRUSTED = (TREE, BOOSTED_TREE)  # besides the types that skops itself trusts
MOST_BYTES = 2**32  # of the content of a file, which is compressed
EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of every part


def skops_io() -> ModuleType:
    """skops.io. Its first import looks into every module that is loaded, and some of PyTorch's then warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    return skops.io


def to_bytes(estimator: Any) -> bytes:
    """A fitted estimator as the content of a .skops file, a function of its values alone.

    Raises UserError if it holds objects that `from_bytes` would not trust.
    """
    try:
        raw = skops_io().dumps(estimator)
        foreign = foreign_types(raw)
    except Exception as error:  # skops raises many types for objects that it cannot write
        raise UserError(f"{type(estimator).__name__} cannot be saved without pickle: {first_line(error)}") from None
    if foreign:
        kind = type(estimator).__name__
        raise UserError(f"{kind} cannot be saved without pickle: it holds objects of type {', '.join(foreign[:3])}")
    return canonical(raw)


def canonical(raw: bytes) -> bytes:
    """The same content with parts that are numbered by their first appearance, without dates, and compressed."""
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        schema = json.loads(source.read(SCHEMA))
        numbers: dict[int, int] = {}
        files: dict[str, str] = {}
        renumber(schema, numbers, files)
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            for old, new in files.items():
                out.writestr(zipfile.ZipInfo(new, EPOCH), source.read(old), zipfile.ZIP_DEFLATED, 1)
            out.writestr(zipfile.ZipInfo(SCHEMA, EPOCH), json.dumps(schema), zipfile.ZIP_DEFLATED, 1)
    return target.getvalue()


def renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    """Replace addresses and file names in a schema of skops, in place.  numbers, files: old -> new."""
    if isinstance(node, list):
        for part in node:
            renumber(part, numbers, files)
    elif isinstance(node, dict):
        if isinstance(node.get("__id__"), int):
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
        if isinstance(file := node.get("file"), str):
            node["file"] = files.setdefault(file, f"{len(files) + 1}.{file.rpartition('.')[2]}")
        for key, part in node.items():
            if key not in ("__id__", "file"):
                renumber(part, numbers, files)


def foreign_types(content: bytes) -> list[str]:
    """The types in a .skops file that are not trusted."""
    return [name for name in skops_io().get_untrusted_types(data=content) if name not in TRUSTED]


def from_bytes(content: bytes, arch: str, where: str) -> Any:
    """The estimator in the content of a .skops file.

    arch: the estimator that it must be.  where: what messages call the file.

    Nothing in the file is executed: an object is built only if its type is trusted. Raises DataError, in one line, if
    the file is damaged, if it holds another estimator, an object of another type, or trees with impossible nodes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            if sum(part.file_size for part in parts.infolist()) > MOST_BYTES:
                raise DataError(f"{where} is too large: more than {MOST_BYTES:,} bytes")
            schema = json.loads(parts.read(SCHEMA))
        kind = f"{schema['__module__']}.{schema['__class__']}"
        name = arch.removeprefix(PREFIX)
        if name not in sources() or kind != f"{module_of(name)}.{name}":
            raise DataError(f"{where} holds an object of type {shown(kind)}, but {arch} is needed")
        if foreign := foreign_types(content):
            raise DataError(f"{where} holds objects of type {shown(', '.join(foreign[:3]))}, which are not trusted")
        estimator = skops_io().loads(content, trusted=list(TRUSTED))
        check_trees(estimator)
    except DataError:
        raise
    except Exception as error:  # zipfile, json, NumPy and skops raise many types for a damaged file
        raise DataError(f"{where} cannot be read as an estimator: {shown(first_line(error))}") from None
    return estimator


def shown(text: str) -> str:
    """Text of a file as a short part of a message."""
    return ascii(text[:150])[1:-1]


def check_trees(estimator: Any) -> None:
    """Raise ValueError unless every tree leads from its root to leaves, by features that exist.

    scikit-learn's compiled code follows a tree without checks, so a node that does not exist would end the process.
    """
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.tree._tree import Tree

    for found in parts_of(estimator, (Tree, TreePredictor), set()):
        if isinstance(found, Tree):
            left, right, feature = found.children_left, found.children_right, found.feature
            inner, features = left != -1, found.n_features
        else:
            nodes = found.nodes
            left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
            inner, feature, features = nodes["is_leaf"] == 0, nodes["feature_idx"], estimator.n_features_in_
            if nodes["is_categorical"].any():
                raise ValueError("a tree splits by categories")
        at = np.arange(len(left))
        children = np.stack([left, right])[:, inner]
        if not len(left) or (children <= at[inner]).any() or (children >= len(left)).any():
            raise ValueError("a tree has a node that does not exist")
        if (feature[inner] < 0).any() or (feature[inner] >= features).any():
            raise ValueError("a tree splits by a feature that does not exist")
        if features != estimator.n_features_in_:
            raise ValueError("a tree was fitted to a part of the features")


def parts_of(value: Any, kinds: tuple[type, ...], seen: set[int]) -> list[Any]:
    """The objects of some types that an estimator holds, directly or within others."""
    if isinstance(value, kinds):
        return [value]
    if id(value) in seen or isinstance(value, str | bytes | int | float):
        return []
    seen.add(id(value))
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list | tuple | set) or (isinstance(value, np.ndarray) and value.dtype == object):
        inside = list(value.flat) if isinstance(value, np.ndarray) else list(value)
    else:
        inside = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return [found for part in inside for found in parts_of(part, kinds, seen)]
