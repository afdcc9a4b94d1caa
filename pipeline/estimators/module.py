"""An estimator of scikit-learn: created with its options, fitted on images, and answering as a network does."""

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ParamsError, UserError, first_line
from pipeline.estimators.catalog import PREFIX, complaint, module_of
from pipeline.estimators.file import check_trees

NO_PROBABILITY = -120.0  # the logit of probability 0: finite, and its softmax in float32 is exactly 0

NEIGHBOURS = ("KNeighborsClassifier", "RadiusNeighborsClassifier")  # brute force: their trees are not saved


def create(arch: str, options: Mapping[str, Any], random_state: int = 0) -> Any:
    """Create an estimator, not fitted.  random_state: of its own draws, if it draws at all.

    Raises ParamsError, in one line, if there is no such classifier, if it has no such option, if a value is not one
    that scikit-learn accepts, or if with these options the classifier does not answer with probabilities.
    """
    if (wrong := complaint(arch, options)) is not None:
        raise ParamsError(": ".join(wrong))
    name = arch.removeprefix(PREFIX)
    try:
        cls = getattr(import_module(module_of(name)), name)
        estimator = cls(**options)
        estimator._validate_params()
    except Exception as error:  # constructors raise many types
        raise ParamsError(f"options: {first_line(error)}") from None
    if not hasattr(estimator, "predict_proba"):
        near = "; set options.probability to true" if "probability" in estimator.get_params() else ""
        raise ParamsError(f"options: with these, {name} does not answer with probabilities{near}")
    if name in NEIGHBOURS and estimator.algorithm == "auto":
        estimator.set_params(algorithm="brute")
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=random_state)
    return estimator


class EstimatorModule(nn.Module):
    """A fitted estimator as a network in evaluation mode: images [B, C_in, H, W] to logits [B, C].

    The logits are the logarithms of the probabilities, so that their softmax is the estimator's answer. A class that
    the estimator has not seen has probability 0. The module has no weights, answers on the CPU, and passes no gradient.

    classes: C, of the data.
    """

    def __init__(self, estimator: Any, classes: int):
        super().__init__()
        self.estimator, self.classes = estimator, classes

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] float32, or float64 for images of that type, on the device of the images.

        Raises UserError if the estimator has no answer, as one of 100 neighbours has none that was fitted to 60 images.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                known = self.estimator.predict_proba(rows_of(x))
            except (TypeError, ValueError, ArithmeticError, MemoryError, np.linalg.LinAlgError) as error:
                raise UserError(f"{type(self.estimator).__name__} cannot answer: {first_line(error)}") from None
        p = np.zeros((len(x), self.classes))
        p[:, self.estimator.classes_] = known
        with np.errstate(divide="ignore"):
            z = torch.from_numpy(np.log(p)).clamp_min(NO_PROBABILITY)
        return z.to(x.device, torch.float64 if x.dtype == torch.float64 else torch.float32)


def rows_of(x: Tensor) -> np.ndarray:
    """Normalised images [B, C_in, H, W] as rows of features [B, C_in * H * W] float32."""
    return x.detach().to("cpu", torch.float32).flatten(1).numpy()


def fit(estimator: Any, x: np.ndarray, y: np.ndarray, name: str) -> list[str]:
    """Fit an estimator in place to rows of features [N, D] and their labels [N].  name: of the member, for messages.

    Returns what scikit-learn warns about, one line each. Raises UserError if the estimator cannot be fitted, or
    if `from_bytes` would refuse its trees.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator.fit(x, y)
        except (TypeError, ValueError, ArithmeticError, MemoryError, np.linalg.LinAlgError) as error:
            kind = type(estimator).__name__
            raise UserError(f"{name}: {kind} cannot be fitted to {len(x)} images: {first_line(error)}") from None
    try:
        check_trees(estimator)
    except ValueError as error:  # such as trees of an ensemble that see a part of the features
        kind = type(estimator).__name__
        raise UserError(f"{name}: {kind} with these options could not be read once it is saved: {error}") from None
    told = (
        first_line(Warning(w.message)) for w in caught if not issubclass(w.category, FutureWarning | DeprecationWarning)
    )
    return list(dict.fromkeys(told))
