"""Checks of the arguments of the quantizers, and of what they are called with."""

from __future__ import annotations

import torch
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize.row_layout import is_traced

_CHOICES: dict[str, tuple[object, ...]] = {
    "assignment": ("nearest", "gumbel"),
    "distance": ("euclidean", "cosine"),
    "update": ("ema", "gradient"),
    "init": ("kmeans", "data", "uniform", "normal"),
    "channel_dim": (1, -1),
}


def check_sizes(**sizes: int) -> None:
    """Check that sizes are at least 1.

    Args:
        **sizes: Values by the name of the argument.

    Raises:
        InputError: if a size is below 1.
    """
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"{name}={value}: must be at least 1")


def check_choices(**choices: object) -> None:
    """Check arguments with a fixed set of values: assignment, distance, update, init, channel_dim.

    Args:
        **choices: Values by the name of the argument.

    Raises:
        InputError: if a value is not one of the allowed values.
    """
    for name, value in choices.items():
        if value not in _CHOICES[name]:
            raise InputError(f"{name}={value!r}: must be one of {', '.join(map(str, _CHOICES[name]))}")


def check_ranges(*, decay: float, beta: float, temperature: float, restart_every: int, restart_share: float) -> None:
    """Check arguments with a range of values.

    Args:
        decay: EMA decay, above 0 and below 1.
        beta: Weight of the commitment term, at least 0.
        temperature: Gumbel-softmax temperature, above 0.
        restart_every: Training steps between restarts, at least 0.
        restart_share: Share of uniform usage, in 0…1.

    Raises:
        InputError: if a value is outside its range.
    """
    if not 0 < decay < 1:
        raise InputError(f"decay={decay}: must be above 0 and below 1")
    if beta < 0:
        raise InputError(f"beta={beta}: must be at least 0")
    check_temperature(temperature)
    if restart_every < 0:
        raise InputError(f"restart_every={restart_every}: must be at least 0 (0 disables restarts)")
    if not 0 <= restart_share <= 1:
        raise InputError(f"restart_share={restart_share}: must be between 0 and 1")


def check_temperature(temperature: float) -> None:
    """Check the temperature of code probabilities.

    Args:
        temperature: The temperature, above 0.

    Raises:
        InputError: if it is not above 0.
    """
    if not temperature > 0:
        raise InputError(f"temperature={temperature}: must be above 0")


def check_weights(update: str, **weights: float) -> None:
    """Check the weights of the loss's optional terms.

    Args:
        update: ``"ema"`` or ``"gradient"``.
        **weights: Values by the name of the argument.

    Raises:
        InputError: if a weight is below 0 or NaN, or ``orthogonality_weight`` is above 0 with ``update="ema"``.
    """
    for name, weight in weights.items():
        if not weight >= 0:
            raise InputError(f"{name}={weight}: must be at least 0 (0 leaves the term out)")
    if update == "ema" and weights["orthogonality_weight"]:
        raise InputError(
            f"orthogonality_weight={weights['orthogonality_weight']} with update='ema': the term trains the codes; "
            "use update='gradient'"
        )


def check_fraction(transport_fraction: float, transport: str, is_backward_rule: bool) -> None:
    """Check the part of the way from vector to code that a backward rule sees.

    Args:
        transport_fraction: The part, in 0…1.
        transport: Name of the transport.
        is_backward_rule: False for a training-time value, which needs 1.

    Raises:
        InputError: if the part is outside 0…1, or below 1 for a training-time value.
    """
    if not 0 <= transport_fraction <= 1:
        raise InputError(f"transport_fraction={transport_fraction}: must be between 0 and 1")
    if transport_fraction < 1 and not is_backward_rule:
        raise InputError(
            f"transport_fraction={transport_fraction} with transport={transport!r}: this transport is a training-time "
            "value without a backward rule; use 1, or transport='rotation'"
        )


def check_channels(z_e: Tensor, dim: int, channel_dim: int) -> None:
    """Check that encoder vectors have their channels where a quantizer expects them.

    Args:
        z_e: Encoder vectors.
        dim: Number of channels.
        channel_dim: Axis of the channels: 1 or −1.

    Raises:
        InputError: if z_e has fewer than two axes or not ``dim`` channels at ``channel_dim``.
    """
    if z_e.dim() < 2 or z_e.shape[channel_dim] != dim:
        raise InputError(
            f"z_e: shape {tuple(z_e.shape)}, axis {channel_dim} must have dim={dim} channels; set channel_dim or dim"
        )


def check_indices(indices: Tensor, num_codes: int) -> None:
    """Check indices of codes; those of a traced or compiled graph cannot be looked at.

    Args:
        indices: Integers, of any shape.
        num_codes: K, the number of codes.

    Raises:
        InputError: if an index is outside −1…K−1.
    """
    if is_traced() or not indices.numel():
        return
    lowest, highest = int(indices.min()), int(indices.max())
    if not -1 <= lowest <= highest < num_codes:
        raise InputError(
            f"indices: from {lowest} to {highest}, must be in 0…{num_codes - 1}, or −1 for a masked vector; use "
            "indices of this codebook"
        )


def check_mask(mask: Tensor | None, shape: tuple[int, ...]) -> None:
    """Check the mask of padded vectors.

    Args:
        mask: The mask, or None.
        shape: The shape of the indices.

    Raises:
        InputError: if the mask is not bool or has another shape.
    """
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != shape):
        raise InputError(
            f"mask: {mask.dtype} of shape {tuple(mask.shape)}, must be torch.bool of shape {shape}, that of the "
            "indices; True where a vector counts"
        )


def check_given_indices(indices: Tensor | None, shape: tuple[int, ...]) -> None:
    """Check codes that are given instead of chosen.

    Args:
        indices: The codes, or None.
        shape: Their shape.

    Raises:
        InputError: if the codes are not int64 or have another shape.
    """
    if indices is not None and (indices.dtype != torch.int64 or tuple(indices.shape) != shape):
        raise InputError(
            f"indices: {indices.dtype} of shape {tuple(indices.shape)}, must be torch.int64 of shape {shape}, one for "
            "each vector"
        )


def check_combination(assignment: str, update: str, transport: str) -> None:
    """Check that the axes can be combined.

    Args:
        assignment: ``"nearest"`` or ``"gumbel"``.
        update: ``"ema"`` or ``"gradient"``.
        transport: Name of a registered transport.

    Raises:
        InputError: if ``assignment="gumbel"`` is combined with another update than ``"gradient"`` or another
            transport than ``"straight_through"``.
    """
    if assignment == "gumbel" and update != "gradient":
        raise InputError(
            f"update={update!r} with assignment='gumbel': the softmax trains the codes; use update='gradient'"
        )
    if assignment == "gumbel" and transport != "straight_through":
        raise InputError(
            f"transport={transport!r} with assignment='gumbel': the softmax defines the gradient; "
            "use transport='straight_through'"
        )
