"""Validation images for choices between Configs, so that the test images choose nothing."""

from __future__ import annotations

from vqlab.config import Config
from vqlab.data import load_data

_SHARE, _MOST = 10, 5000
_CIFAR10_TRAIN = 50_000


def with_validation(config: Config) -> Config:
    """Give a Config validation images, for a search, a grid or a comparison.

    Args:
        config: any Config.

    Returns:
        The same Config if ``data.validation`` is set or the source has validation images of its own, else with a tenth
        of the training images as ``data.validation``, at most 5,000.

    Raises:
        InputError: if the images cannot be read.

    Example:
        >>> with_validation(Config.profile("paper", **{"data.source": "cifar10"})).data.validation
        5000
    """
    if config.data.validation:
        return config
    if config.data.source == "cifar10":
        count = _CIFAR10_TRAIN
    else:
        data = load_data(config.data.model_copy(update={"train_limit": None, "test_limit": None}))
        count = 0 if data.validation is not None else len(data.train)
    share = min(_MOST, max(count // _SHARE, 1 if count > 1 else 0))
    return config.replace(**{"data.validation": share}) if share else config
