"""Losses: how far the outputs of a batch are from what they should be, as one number, the mean over the samples.

Each is a plain function of (outputs, y, sample_weight) in NumPy, so the engine differentiates it with the network.
With a weight w per sample the mean is Σ w l / Σ w, and 0 if all of them are 0. Losses over classes take the numbers
before softmax or sigmoid, the logits: their formulas then neither overflow nor lose digits.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

import numpy as np

from koubai.derivatives.gradient import Differentiated
from koubai.descent.batches import check_finite
from koubai.errors import InputError
from koubai.graph import activations  # noqa: F401 its primitives enter the table
from koubai.graph.mirror import mirrored
from koubai.graph.ops import apply
from koubai.nn.settings import Configurable, below_one, positive
from koubai.parameters import real_array

__all__ = ["MAE", "MSE", "BinaryCrossEntropy", "CrossEntropy", "Huber", "Loss", "hits", "sample_weights"]

Shape: TypeAlias = tuple[int, ...]


class Loss(Configurable):
    """Loss: the mean distance of outputs from y. This one has distance 0.

        loss.forward(outputs, y);  douts = loss.backward()

    To write one, override `each`; `check` says which y it takes.

    Examples
    --------
    >>> loss = nn.MSE()
    >>> float(loss.forward(np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]])))
    2.5
    >>> loss.backward()
    array([[1.],
           [2.]])
    """

    classifies: ClassVar[bool] = False  # whether y is a class, so that there is an accuracy
    class_weight: Any = None

    def __init__(self) -> None:
        self.name = f"{type(self).__name__}()"
        self._gradient: Any = None
        self._differentiated: Differentiated | None = None

    def __repr__(self) -> str:
        return self.name

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy: all but what `backward` needs."""
        return self.__dict__ | {"_gradient": None, "_differentiated": None}

    def each(self, outputs: Any, y: Any) -> Any:
        """Return the loss of every output (or of every sample), before the mean is taken."""
        return 0.0 * outputs

    def __call__(self, outputs: Any, y: Any, sample_weight: Any = None) -> Any:
        """Return the mean loss of a batch: a scalar, and differentiable by the engine."""
        losses = mirrored(self).each(outputs, self._targets(outputs, y))
        if sample_weight is None:
            return losses.mean()
        if losses.ndim > 1:
            losses = losses.mean(axis=tuple(range(1, losses.ndim)))
        w = _cast(sample_weight, outputs.dtype)
        return _share(np.sum(w * losses), np.sum(w))

    def total_weight(self, y: Any, sample_weight: Any = None) -> Any:
        """Return what the samples y weigh together: the sum that the mean loss is divided by. Without weights, how many
        they are.
        """
        return float(y.shape[0]) if sample_weight is None else np.sum(sample_weight)

    def _targets(self, outputs: Any, y: Any) -> Any:
        """Return y in the outputs' shape and precision: (n, 1) against (n,) must not be spread to (n, n)."""
        y = _cast(y, outputs.dtype)
        if y.shape == outputs.shape:
            return y
        if (*y.shape, 1) == outputs.shape:
            return y.reshape(outputs.shape)
        raise InputError(
            f"{self.name}: y has shape {y.shape}, but the outputs have {outputs.shape}; they must be equal"
        )

    def check(self, output_shape: Shape, y: Any) -> Any:
        """Return y as the array that the loss takes. Raises InputError if it can't be, naming the first bad entry.

        output_shape: of one sample's output, without the batch axis.
        """
        y = real_array(y, "y")
        if y.shape[1:] != output_shape and (*y.shape[1:], 1) != output_shape:
            raise InputError(
                f"{self.name}: y has shape {y.shape}, but the network puts out {output_shape} a sample; "
                f"give y the shape {('samples', *output_shape)}".replace("'", "")
            )
        check_finite(y, "y")
        return y

    def predict(self, outputs: Any) -> Any:
        """Return what the outputs say: the numbers themselves, or the class."""
        return outputs

    def proba(self, outputs: Any) -> Any:
        """Return the probability of every class. Raises InputError for a loss that knows no classes."""
        raise InputError(f"{self.name} knows no classes, so there are no probabilities; use CrossEntropy()")

    def forward(self, outputs: Any, y: Any, sample_weight: Any = None) -> Any:
        """Return the loss of a batch, and keep what `backward` needs."""
        outputs = real_array(outputs, "outputs")
        y = self.check(outputs.shape[1:], y)
        if len(y) != len(outputs):
            raise InputError(f"{self.name}: {len(outputs)} outputs, but y has {len(y)} rows; they must be equal")
        if sample_weight is not None:
            sample_weight = sample_weights(sample_weight, len(y), outputs.dtype)
        if self._differentiated is None:
            self._differentiated = Differentiated(lambda outputs, y, weight: self(outputs, y, weight), 0, "backprop")
        value, self._gradient = self._differentiated(outputs, y, sample_weight)
        return value

    def backward(self) -> Any:
        """Return the derivative of the last `forward`'s loss with respect to the outputs."""
        if self._gradient is None:
            raise InputError(f"{self.name}: backward was called before forward; call forward(outputs, y) first")
        return self._gradient


def hits(loss: Loss, outputs: Any, y: Any) -> Any:
    """Return for each sample the share of its answers that are right."""
    said = loss.predict(outputs)
    if y.ndim == 2 and said.ndim == 1 and y.shape[1] > 1:
        y = np.argmax(y, axis=1)  # rows of probabilities
    right = said == (y.reshape(said.shape) if y.dtype.kind in "iub" else y.reshape(said.shape) > 0.5)
    return right if right.ndim == 1 else np.mean(right.reshape(right.shape[0], -1), axis=1)


def sample_weights(weights: Any, samples: int, dtype: Any, some: bool = True) -> Any:
    """Return the weights of the samples as an array. Raises InputError if they can't weigh anything.

    some: whether one of them must be above 0, which in a single batch isn't needed.
    """
    array = np.asarray(weights)
    if array.dtype.kind not in "fiub" or array.shape != (samples,):
        raise InputError(
            f"sample_weight must be one number a sample, shape ({samples},), got {array.dtype} {array.shape}"
        )
    array = np.asarray(array, dtype)
    if not (np.isfinite(array).all() and (array >= 0).all() and ((array > 0).any() or not some)):
        raise InputError("sample_weight must be finite, ≥ 0, and not 0 everywhere")
    return array


def _cast(y: Any, dtype: Any) -> Any:
    y = y if hasattr(y, "dtype") else np.asarray(y)
    return y if y.dtype == dtype else y.astype(dtype)


def _share(losses: Any, weight: Any) -> Any:
    """Return the weighted mean of a batch: 0, with nothing to learn from, if every sample weighs 0."""
    return losses / np.maximum(weight, np.finfo(weight.dtype).tiny)


class MSE(Loss):
    """Mean squared error: for targets that are numbers.

        L = mean((outputs − y)²)

    The mean runs over samples and outputs, as in PyTorch and Keras; many articles sum over the outputs, or halve it.

    Examples
    --------
    >>> float(nn.MSE().forward(np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]])))
    5.0
    """

    def each(self, outputs: Any, y: Any) -> Any:
        return np.square(outputs - y)


class MAE(Loss):
    """Mean absolute error: for targets that are numbers, some of them far off.

        L = mean(|outputs − y|)

    The derivative is 0 if both are equal, as in PyTorch and JAX.

    Examples
    --------
    >>> float(nn.MAE().forward(np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]])))
    2.0
    """

    def each(self, outputs: Any, y: Any) -> Any:
        return np.absolute(outputs - y)


class Huber(Loss):
    """Huber: squared if the error is small, absolute if it is large.

        L = mean(r² / 2 if |r| ≤ delta, else delta (|r| − delta / 2)),  r = outputs − y

    Parameters
    ----------
    delta : float, default 1.0
        > 0. As in PyTorch's HuberLoss and Keras.

    Examples
    --------
    >>> float(nn.Huber().forward(np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]])))
    1.5

    References
    ----------
    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 1964.
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = positive(delta, "delta")
        self.name = f"Huber({delta})"

    def each(self, outputs: Any, y: Any) -> Any:
        r = outputs - y
        clipped = np.clip(r, -self.delta, self.delta)
        return clipped * (r - 0.5 * clipped)


class BinaryCrossEntropy(Loss):
    """Binary cross-entropy: for yes or no, from logits; with several outputs, for several such questions.

        l = −y log p − (1 − y) log(1 − p) = (1 − y) outputs + log(1 + exp(−outputs)),  p = sigmoid(outputs)

    y has the outputs' shape ((n,) will do for (n, 1)), every entry in [0, 1], 1 for yes.

    Parameters
    ----------
    class_weight : (float, float), optional
        (weight of no, weight of yes); the mean is Σ w l / Σ w. PyTorch's pos_weight is the second with the first 1, and
        divides by the number of entries.
    label_smoothing : float, default 0.0
        ε in [0, 1); y becomes (1 − ε) y + ε / 2, as in Keras.

    Examples
    --------
    >>> round(float(nn.BinaryCrossEntropy().forward(np.array([[0.0]]), np.array([1]))), 4)  # log 2
    0.6931
    """

    classifies = True

    def __init__(self, *, class_weight: Any = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.class_weight = None if class_weight is None else _class_weights(class_weight)
        if self.class_weight is not None and len(self.class_weight) != 2:
            raise InputError(f"class_weight must be (weight of no, weight of yes), got {class_weight!r}")
        self.label_smoothing = below_one(label_smoothing, "label_smoothing")

    def __call__(self, outputs: Any, y: Any, sample_weight: Any = None) -> Any:
        y = self._targets(outputs, y)
        weight = self._weights(y, sample_weight)
        losses = mirrored(self).each(outputs, y)
        return losses.mean() if weight is None else _share(np.sum(weight * losses), np.sum(weight))

    def _weights(self, y: Any, sample_weight: Any) -> Any:
        """Return the weight of every answer, None if all are 1."""
        weight: Any = None
        if self.class_weight is not None:
            no, yes = (float(w) for w in self.class_weight)
            weight = no + (yes - no) * y
        if sample_weight is not None:
            w = _cast(sample_weight, y.dtype).reshape(-1, *[1] * (y.ndim - 1))
            weight = np.broadcast_to(w, y.shape) if weight is None else w * weight
        return weight

    def total_weight(self, y: Any, sample_weight: Any = None) -> Any:
        weight = self._weights(y, sample_weight)
        return float(y.shape[0]) if weight is None else np.sum(weight) * (1.0 / math.prod(y.shape[1:]))

    def each(self, outputs: Any, y: Any) -> Any:
        if self.label_smoothing:
            y = (1.0 - self.label_smoothing) * y + 0.5 * self.label_smoothing
        return (1.0 - y) * outputs + apply("softplus", -outputs)

    def check(self, output_shape: Shape, y: Any) -> Any:
        y = super().check(output_shape, np.asarray(y).astype(np.float64) if np.asarray(y).dtype == np.bool_ else y)
        wrong = np.argwhere((y < 0) | (y > 1))
        if len(wrong):
            at = ", ".join(map(str, wrong[0]))
            raise InputError(
                f"{self.name}: y[{at}] = {y[tuple(wrong[0])]}, but y says no with 0 and yes with 1; "
                "for more than two classes use CrossEntropy()"
            )
        return y

    def predict(self, outputs: Any) -> Any:
        """Return 1 for yes and 0 for no, of shape (n,) if there is one output per sample."""
        said = (outputs > 0).astype(np.intp)
        return said[:, 0] if said.ndim == 2 and said.shape[1] == 1 else said

    def proba(self, outputs: Any) -> Any:
        """Return the probability of yes."""
        with np.errstate(over="ignore"):
            return apply("sigmoid", outputs)


class CrossEntropy(Loss):
    """Cross-entropy: for one class out of several, from logits.

        l = −log softmax(outputs)[y] = log Σ exp(outputs[k]) − outputs[y]

    The outputs have shape (n, classes). y: labels 0 … classes−1 of shape (n,), or rows of probabilities (one-hot rows
    among them) of shape (n, classes). Raises InputError for labels out of range and rows that do not sum to 1.

    Parameters
    ----------
    class_weight : array, optional
        A weight for each class. With labels the mean is Σ w[y] l / Σ w[y]; with probabilities every class's term is
        weighted and the mean stays that over samples. As in PyTorch.
    label_smoothing : float, default 0.0
        ε in [0, 1); y becomes (1 − ε) y + ε / classes, as in PyTorch.

    Examples
    --------
    >>> round(float(nn.CrossEntropy().forward(np.zeros((1, 10)), np.array([3]))), 4)  # log 10
    2.3026

    References
    ----------
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (label smoothing).
    """

    classifies = True

    def __init__(self, *, class_weight: Any = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.class_weight = None if class_weight is None else _class_weights(class_weight)
        self.label_smoothing = below_one(label_smoothing, "label_smoothing")

    def __call__(self, outputs: Any, y: Any, sample_weight: Any = None) -> Any:
        shifted = outputs - apply("largest", outputs, axis=(1,), keepdims=True)
        total = np.log(np.sum(np.exp(shifted), axis=1))
        losses, weight = self._labels(shifted, total, y) if y.ndim == 1 else self._probabilities(shifted, total, y)
        if sample_weight is not None:
            w = _cast(sample_weight, outputs.dtype)
            return _share(np.sum(w * losses), np.sum(w if weight is None else w * weight))
        return losses.mean() if weight is None else _share(np.sum(losses), np.sum(weight))

    def total_weight(self, y: Any, sample_weight: Any = None) -> Any:
        if self.class_weight is None or y.ndim > 1:
            return super().total_weight(y, sample_weight)
        weight = self._of_labels(y, self.class_weight)
        return np.sum(weight if sample_weight is None else sample_weight * weight)

    @staticmethod
    def _of_labels(y: Any, weights: Any) -> Any:
        """Return weights[y], without checking y."""
        return np.sum(weights * (y[:, None] == np.arange(len(weights))), axis=1)

    def _labels(self, shifted: Any, total: Any, y: Any) -> tuple[Any, Any]:
        """Return (weighted loss, weight) of every sample; the weight is None if all are 1."""
        smoothing, classes = self.label_smoothing, shifted.shape[1]
        losses = total - shifted[np.arange(shifted.shape[0]), y]
        weight = None
        if self.class_weight is not None:
            weights = self._weights(shifted)
            weight = self._of_labels(y, weights)
            losses = weight * losses
        if smoothing:
            others = total * classes - np.sum(shifted, axis=1)
            if self.class_weight is not None:
                others = total * np.sum(weights) - shifted @ weights
            losses = (1.0 - smoothing) * losses + (smoothing / classes) * others
        return losses, weight

    def _probabilities(self, shifted: Any, total: Any, y: Any) -> tuple[Any, Any]:
        p = _cast(y, shifted.dtype)
        if self.label_smoothing:
            p = (1.0 - self.label_smoothing) * p + self.label_smoothing / shifted.shape[1]
        if self.class_weight is not None:
            p = p * self._weights(shifted)
        return np.sum(p * (total[:, None] - shifted), axis=1), None

    def _weights(self, shifted: Any) -> Any:
        return self.class_weight.astype(shifted.dtype)

    def check(self, output_shape: Shape, y: Any) -> Any:
        if len(output_shape) != 1 or output_shape[0] < 2:
            raise InputError(
                f"{self.name} needs one output a class, at least 2; the network puts out {output_shape} a sample: "
                "use BinaryCrossEntropy() for one output, or end with Dense(classes)"
            )
        (classes,) = output_shape
        if self.class_weight is not None and len(self.class_weight) != classes:
            raise InputError(f"class_weight has {len(self.class_weight)} entries for {classes} classes")
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] > 1:
            return _probabilities(real_array(y, "y"), classes)
        if labels.dtype.kind not in "iub" or labels.ndim != 1:
            raise InputError(
                f"{self.name}: y must hold whole numbers 0 … {classes - 1}, one a sample, or a row of {classes} "
                f"probabilities; got shape {labels.shape} of dtype {labels.dtype}"
                + ("; y[:, 0] is one label a sample" if labels.shape[1:] == (1,) else "")
                + ("; y.astype(int) makes whole numbers of them" if _are_whole(labels) else "")
            )
        labels = labels.astype(np.intp, copy=False)
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if wrong.size:
            i = wrong[0]
            raise InputError(
                f"{self.name}: y[{i}] = {labels[i]}, but with {classes} outputs labels are 0 … {classes - 1}; "
                "number the classes from 0, or give the last layer more outputs"
            )
        return labels

    def predict(self, outputs: Any) -> Any:
        return np.argmax(outputs, axis=1)

    def proba(self, outputs: Any) -> Any:
        raised = np.exp(outputs - apply("largest", outputs, axis=(1,), keepdims=True))
        return raised / np.sum(raised, axis=1, keepdims=True)


def _are_whole(y: Any) -> bool:
    """Return whether these labels are numbers only by their dtype."""
    return y.dtype.kind == "f" and bool(np.all(y == np.floor(y)))


def _probabilities(y: Any, classes: int) -> Any:
    if y.shape[1] != classes:
        raise InputError(f"y has rows of {y.shape[1]} probabilities, but the network puts out {classes} a sample")
    check_finite(y, "y")
    wrong = np.flatnonzero((y < 0).any(axis=1) | (np.abs(y.sum(axis=1) - 1.0) > 1e-3))
    if wrong.size:
        i = wrong[0]
        raise InputError(f"y[{i}] = {y[i]} is no row of probabilities: they must be ≥ 0 and sum to 1")
    return y


def _class_weights(weights: Any) -> Any:
    """Return the weights of classes 0, 1, … as an array."""
    if isinstance(weights, dict):
        if sorted(weights) != list(range(len(weights))):
            raise InputError(f"class_weight must name every class 0, 1, …, got {sorted(weights)}")
        weights = [weights[k] for k in range(len(weights))]
    array = real_array(weights, "class_weight")
    if array.ndim != 1 or not np.all(array >= 0) or not np.any(array > 0) or not np.all(np.isfinite(array)):
        raise InputError(f"class_weight must be one number ≥ 0 a class, not all of them 0, got {weights!r}")
    return array
