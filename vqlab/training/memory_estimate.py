"""How much memory a training will need, compared with that of the machine before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from vqlab.config import FIXED_CODES, Config
from vqlab.data import ImageData
from vqlab.data.memory import memory_budget, total_memory
from vqlab.errors import InputError
from vqlab.models import build_model

_FLOAT_BYTES = 4
# Python and torch without a model, resident.
_LIBRARIES = 500 << 20
# Outputs of modules and of what is between them (activation functions, sums), and their gradients.
_COPIES_OF_ACTIVATIONS = 2.5
# An evaluation holds what two layers give, without gradients.
_COPIES_IN_EVALUATION = 2


@dataclass(frozen=True)
class MemoryEstimate:
    """Parts of the memory of a training, in bytes.

    Attributes:
        libraries: Python and its libraries; 0 on an accelerator.
        images: pixels that are held.
        codebook: codes with their averages, gradients and moments.
        network: weights with gradients and moments.
        training: activations of a batch and their gradients.
        evaluation: activations of a batch of evaluation.
    """

    libraries: int
    images: int
    codebook: int
    network: int
    training: int
    evaluation: int

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.libraries + self.images + self.codebook + self.network + max(self.training, self.evaluation)


def estimate_memory(config: Config, device: str, images: int, evaluated: int, pixels: int) -> MemoryEstimate:
    """Estimate the peak memory of a training from the shapes of its tensors; nothing of its size is allocated.

    Weights, codes and moments are counted, activations by a forward pass without data. Of peaks measured on a CPU
    it gave 0.95 times for the VQ-VAE of profile ``paper``, 1.17 times for the VAE and 1.65 times for the GAN.

    Args:
        config: the Config.
        device: the torch device that trains.
        images: number of training images.
        evaluated: number of test or validation images.
        pixels: bytes of the images that are held in memory.

    Returns:
        The parts.
    """
    # The codes of a VQ-VAE are drawn in memory, whatever the device: one stands for all.
    drawn = config.kind == "vqvae" and config.quantizer.family not in FIXED_CODES
    small = config.replace(**{"quantizer.num_codes": 1}) if drawn else config
    with torch.device("meta"), torch.no_grad():
        model = build_model(small, 0).eval()
        prior = config.prior.kind != "none"
        batch = min(config.prior.batch_size if prior else config.optim.batch_size, images)
        batch = math.ceil(batch / config.optim.accumulate)
        outputs = _outputs(model, config)
    # Value, gradient, two moments and an average; a checkpoint copies all but the gradient.
    copies = 7 + 2 * (config.optim.ema > 0)
    codebook = sum(tensor.numel() for name, tensor in model.state_dict().items() if ".book." in name)
    codebook *= config.quantizer.num_codes if drawn else 1
    weights = sum(tensor.numel() for name, tensor in model.state_dict().items() if ".book." not in name)
    # The codes and their averages, once more in a checkpoint and while they change.
    codebook_copies = copies if config.quantizer.update == "gradient" else 3
    on_cpu = torch.device(device).type == "cpu"
    evaluation = max(outputs, default=0) * min(config.evaluation.batch_size, evaluated) * _COPIES_IN_EVALUATION
    return MemoryEstimate(
        libraries=_LIBRARIES if on_cpu else 0,
        images=pixels + (images + evaluated) * math.prod(config.code_shape) * 8 * prior if on_cpu else 0,
        codebook=codebook * codebook_copies * _FLOAT_BYTES,
        network=weights * copies * _FLOAT_BYTES,
        training=math.ceil(sum(outputs) * batch * _COPIES_OF_ACTIVATIONS * _FLOAT_BYTES),
        evaluation=evaluation * _FLOAT_BYTES,
    )


class ImageCounts(NamedTuple):
    """What the memory of a training depends on of its images.

    Attributes:
        images: number of training images.
        evaluated: number of test or validation images, the larger one.
        pixels: bytes that are held in memory; of images that are mapped from a file, up to the budget.
    """

    images: int
    evaluated: int
    pixels: int

    @classmethod
    def of(cls, data: ImageData) -> Self:
        """Count images.

        Args:
            data: the images.

        Returns:
            The counts.
        """
        sets = (data.train, data.test, *([data.validation] if data.validation else []))
        pixels = min(sum(images.pixels.numel() for images in sets), memory_budget())
        return cls(len(data.train), max(len(images) for images in sets[1:]), pixels)


def check_memory(config: Config, device: str, counts: ImageCounts, name: str = "") -> None:
    """Refuse a training that needs more memory than the machine, or the accelerator, has.

    Args:
        config: the Config.
        device: the torch device that trains.
        counts: of its images.
        name: what begins the message. Default: nothing.

    Raises:
        InputError: if it needs more; the message has both numbers and the field to lower.
    """
    estimate = estimate_memory(config, device, *counts)
    cuda = torch.device(device).type == "cuda"
    available = torch.cuda.get_device_properties(device).total_memory if cuda else total_memory()
    if estimate.total <= available:
        return
    prior = config.prior.kind != "none"
    parts = {
        "quantizer.num_codes or quantizer.dim": estimate.codebook,
        "prior.width" if prior else {"gan": "gan.width"}.get(config.kind, "model.hidden"): estimate.network,
        "prior.batch_size" if prior else "optim.batch_size": estimate.training,
        "evaluation.batch_size": estimate.evaluation,
    }
    field = max(parts, key=lambda name: parts[name])
    raise InputError(
        f"{name}training needs about {estimate.total / 2**30:.1f} GiB of memory, and {device} has "
        f"{available / 2**30:.1f} GiB; lower {field}, whose part is {parts[field] / 2**30:.1f} GiB, or use --force "
        "(in Python force=True) to train all the same"
    )


def _outputs(model: nn.Module, config: Config) -> list[int]:
    """Number of values that each layer gives for one image, on the device without data."""
    sizes: list[int] = []

    def note(layer: nn.Module, inputs: object, output: object) -> None:
        sizes.extend(value.numel() for value in (output if isinstance(output, tuple) else (output,))
                     if isinstance(value, Tensor))  # fmt: skip

    for layer in model.modules():
        if not list(layer.children()):
            layer.register_forward_hook(note)
    height, width = config.grid
    image = torch.zeros(1, *config.data.shape)
    grid = torch.zeros(1, *config.code_shape, dtype=torch.int64)
    if config.kind == "vqvae":
        model.get_submodule("decoder")(model.get_submodule("encoder")(image))
    elif config.kind == "vae":
        model(image, torch.zeros(1, config.vae.latent_dim))
    elif config.kind == "gan":
        fake = model.get_submodule("generator")(torch.zeros(1, config.gan.latent_dim))
        model.get_submodule("discriminator")(fake)
    elif config.kind == "transformer":
        model(grid, torch.zeros(1, dtype=torch.int64))
    else:
        noisy = torch.zeros(1, config.quantizer.dim, height, width)
        labels = torch.zeros(1, dtype=torch.int64)
        model.get_submodule("unet")(noisy, labels, class_labels=labels)
    if config.kind == "vqvae":
        # z_e, its rows, codes and their differences.
        sizes.append(6 * config.quantizer.dim * height * width)
    return sizes
