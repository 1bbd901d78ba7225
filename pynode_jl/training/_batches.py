"""Batches from a seed, and whether data fit a model."""

from __future__ import annotations

import numpy as np

from pynode_jl._validation import instance, whole_number
from pynode_jl.backends import Array
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataChangedError, DataError, InvalidValueError
from pynode_jl.fields import VectorField
from pynode_jl.models import Model, check_model
from pynode_jl.seeding import generator
from pynode_jl.tasks import Classification

# Of grey and colour images, with transparency or without. No image is so narrow.
_CHANNELS = (1, 3, 4)
_LEAST_SIDE = 8


def batch_indices(seed: int, n: int, batch_size: int, first: int, last: int) -> Array:
    """Return the batches of iterations `first` to ``last - 1``, (last - first, batch_size) indices.

    Every epoch is a permutation of its own, so that any iteration's batch is known without those
    before it.

    Raises:
        InvalidValueError: a batch larger than `n`, or iterations out of order.

    Example:
        >>> from pynode_jl.training import batch_indices
        >>> batch_indices(seed=0, n=100, batch_size=10, first=0, last=3).shape
        (3, 10)
    """
    n, batch_size = (
        whole_number(name, value, most=2**31 - 1)
        for name, value in (("n", n), ("batch_size", batch_size))
    )
    if batch_size > n:
        raise InvalidValueError("batch_size", batch_size, f"at most n = {n}", "Make it smaller.")
    last = whole_number("last", last, most=2**31 - 1)
    first = whole_number("first", first, 0, most=last - 1)
    per_epoch = n // batch_size
    epochs = {
        epoch: generator(seed, "batches", epoch).permutation(n)
        for epoch in range(first // per_epoch, (last - 1) // per_epoch + 1)
    }
    rows = [
        epochs[i // per_epoch][(i % per_epoch) * batch_size :][:batch_size]
        for i in range(first, last)
    ]
    return np.stack(rows).astype(np.int32)


def check_fit(model: Model, dataset: Dataset) -> None:
    """Refuse data that a model cannot take.

    `dataset` is what the `model` shall be trained or judged with.

    Raises:
        DataError: samples of another shape, another task, images whose channels come last, or more
            classes than the model has.

    Example:
        >>> from pynode_jl.training import check_fit
        >>> check_fit(pn.Model(pn.MLP(2), classes=2), pn.concentric_spheres(3, n_train=4, n_test=4))
        Traceback (most recent call last):
        pynode_jl.errors.DataError: ...
    """
    check_model(model)
    instance("dataset", dataset, Dataset, "a Dataset", "Make one: Dataset.from_arrays(x, y).")
    if dataset.state_shape != model.input_shape:
        raise DataError(
            "dataset.state_shape",
            dataset.state_shape,
            f"{model.input_shape}, the model's input",
            "Make the field for this shape (plus `augment`).",
        )
    if isinstance(model.field, VectorField) and len(model.field.state_shape) == 3:
        check_channels(dataset.state_shape)
    if not isinstance(model.task, Classification) or not isinstance(dataset.task, Classification):
        if model.task != dataset.task:
            raise DataError(
                "dataset.task", dataset.task, f"the model's, {model.task}", "Give both the same."
            )
        return
    if dataset.classes > model.classes:
        raise DataError(
            "dataset.classes",
            dataset.classes,
            f"at most {model.classes}, the model's",
            "Give the model as many classes.",
        )


def check_channels(shape: tuple[int, ...]) -> None:
    """Refuse the shape of an image that has no channels, or has them last.

    A convolution over (height, width, 3) would take rows for channels, and say nothing.

    Raises:
        DataError: it is one.

    Example:
        >>> from pynode_jl.training import check_channels
        >>> check_channels((3, 32, 32))
        >>> check_channels((32, 32, 3))
        Traceback (most recent call last):
        pynode_jl.errors.DataError: ...
    """
    expected = "(channels, height, width)"
    if len(shape) == 2:
        hint = (
            "Give the images a channel: x = x[:, None], of shape (n, 1, height, width), or pass"
            ' channels="none" with the data.'
        )
        raise DataError("dataset.state_shape", shape, expected, hint)
    if len(shape) == 3:
        height, width, channels = shape
        if channels in _CHANNELS and min(height, width) >= _LEAST_SIDE:
            hint = (
                "The channels come last: move them with x = np.moveaxis(x, -1, 1), or pass"
                ' channels="last" with the data.'
            )
            raise DataError("dataset.state_shape", shape, expected, hint)


def check_same_data(recorded: str, dataset: Dataset) -> None:
    """Refuse data other than those that a model was trained on.

    Args:
        recorded: the fingerprint of the training's data; "" where unknown, which passes.
        dataset: what is to be used now; its training and test parts both count.

    Raises:
        DataChangedError: another fingerprint.

    Example:
        >>> from pynode_jl.training import check_same_data
        >>> check_same_data(data.fingerprint, data)
        >>> check_same_data("another", data)
        Traceback (most recent call last):
        pynode_jl.errors.DataChangedError: ...
    """
    if recorded and dataset.fingerprint != recorded:
        raise DataChangedError(dataset.name, dataset.fingerprint, recorded)
