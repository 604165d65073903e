"""What a Run computes, as validated values: the Config tree, its id, the named profiles, and its fields described."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from vqlab.errors import InputError

PROFILES = ("quick", "paper", "best", "best-long", "gpu")

# Part of every id. To be raised with a changed default, so that old and new Runs never share an id.
DEFAULTS_VERSION = 1

# The network of LPIPS halves height and width four times.
_LPIPS_PIXELS = 16
_GAN_PIXELS = 32

# What is done with images of another size; ``vqlab.data.decode.fit_image`` describes each.
Fit = Literal["crop", "squash", "pad", "exact"]


# Context of validation that keeps the spelling of a path, so that a stored Config keeps its id.
_AS_STORED = "as stored"


def absolute_path(path: str) -> str:
    """Write a path in the one way that every spelling of it has in a Config.

    Args:
        path: absolute, or relative to the working directory; it may begin with ``~``, and end with a slash.

    Returns:
        The absolute path without ``.``, ``..``, repeated and trailing slashes. Links are kept, and so is ``..`` where
        it follows a link to another folder.

    Example:
        >>> absolute_path("/data/./images//"), absolute_path("/data/more/../images")
        ('/data/images', '/data/images')
    """
    joined = os.path.join(os.getcwd(), os.path.expanduser(path))
    written = os.path.normpath(joined)
    if os.path.realpath(written) != os.path.realpath(joined):
        return joined
    return f"/{written.lstrip('/')}" if written.startswith("//") else written


class ConfigSection(BaseModel):
    """A part of the Config: its values cannot be changed in place, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(ConfigSection):
    """Which images, their size and colour, and how they are cropped and flipped (paper §4.1.1).

    ``height`` and ``width`` are for images that are not square; where one is not set, it is ``image_size``. Equal sizes
    have one spelling, and so one id: a square is ``image_size`` alone, and other images are ``height`` and ``width``
    with the default ``image_size``, which then has no effect.

    Example:
        >>> DataConfig(height=64, width=64) == DataConfig(image_size=64)
        True
        >>> DataConfig(image_size=64, width=96, channels=1).shape
        (1, 64, 96)
    """

    source: str = Field(
        "photos",
        description="embedded patches of photographs, CIFAR-10, or your own folder, archive or list of images",
        json_schema_extra={"allowed": "photos | cifar10 | folder:PATH"},
    )
    image_size: int = Field(32, ge=12, le=512, multiple_of=4, description="height and width of an image, pixels")
    height: int | None = Field(None, ge=12, le=512, multiple_of=4, description="height, pixels; null: image_size")
    width: int | None = Field(None, ge=12, le=512, multiple_of=4, description="width, pixels; null: image_size")
    channels: Literal[1, 3] = Field(3, description="3: colour, and grey images repeated; 1: grey, the luma of colours")
    augment: bool = Field(True, description="random crop and horizontal flip of training images (§4.1.1)")
    crop_padding: int = Field(2, ge=0, le=16, description="reflected pixels added on each side before the crop")
    random_crop: bool = Field(
        False,
        description="own images: in training a random part of each image, not the centre",
    )
    train_limit: int | None = Field(None, ge=1, description="training images taken from a seeded shuffle; null: all")
    test_limit: int | None = Field(None, ge=1, description="test images taken from a seeded shuffle; null: all")
    validation: int = Field(
        0, ge=0, description="training images kept out of training, by a fixed shuffle; measured after each epoch"
    )
    fit: Fit = Field(
        "crop", description="images of another size: central part, squashed, padded with black, or refused"
    )
    on_broken: Literal["refuse", "skip"] = Field("refuse", description="what to do with an unreadable image file")
    memory: float | None = Field(
        None,
        ge=0,
        lt=1e6,
        description="GiB of pixels held in memory, more are mapped from the cache; no part of the id; null: "
        "$VQLAB_DATA_MEMORY, or a quarter of the memory",
    )

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str, info: ValidationInfo) -> str:
        if value in ("photos", "cifar10") or info.context == _AS_STORED:
            return value
        if value.startswith("folder:") and len(value) > len("folder:"):
            return f"folder:{absolute_path(value.removeprefix('folder:'))}"
        raise ValueError("must be photos, cifar10 or folder:PATH")

    @model_validator(mode="after")
    def _one_spelling(self) -> DataConfig:
        """Equal sizes become equal fields, since the id is a hash of the fields."""
        default = type(self).model_fields["image_size"].default
        height, width = self.height or self.image_size, self.width or self.image_size
        if self.height and self.width and self.image_size not in (default, height, width):
            raise ValueError(
                f"image_size={self.image_size} has no effect beside height={height} and width={width}; change these, "
                "or leave it out"
            )
        square = height == width
        self.__dict__.update(
            image_size=height if square else default, height=None if square else height, width=None if square else width
        )
        return self

    @model_validator(mode="after")
    def _check_random_crop(self) -> DataConfig:
        if not self.random_crop:
            return self
        if self.source in ("photos", "cifar10"):
            raise ValueError(
                f"random_crop=True: needs own images; those of source={self.source} all have the wanted size, so there "
                "is nothing to crop; set False"
            )
        for name, value, needed in (("fit", self.fit, "crop"), ("augment", self.augment, True)):
            if value != needed:
                raise ValueError(f"random_crop=True: needs {name}={needed}, not {name}={value}; change one of the two")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.height or self.image_size, self.width or self.image_size

    @property
    def sizes(self) -> dict[str, int]:
        """Height and width, pixels, by the fields that set them; a square has one field for both."""
        _, height, width = self.shape
        return {"data.image_size": height} if height == width else {"data.height": height, "data.width": width}


class ModelConfig(ConfigSection):
    """Encoder and decoder (paper §3.1.1, §3.3.1): strided convolutions and a residual stack."""

    kind: Literal["vqvae", "vae", "gan"] = Field("vqvae", description="the model to train (baselines: §4.1.3)")
    hidden: int = Field(128, ge=4, le=2048, description="channels of the feature maps")
    residual_blocks: int = Field(2, ge=0, le=16, description="blocks in each residual stack")
    residual_hidden: int = Field(64, ge=1, le=2048, description="channels inside a residual block")
    downsample: int = Field(2, ge=1, le=5, description="halvings of height and width; 2 gives 8x8 codes at 32 pixels")
    block: Literal["paper", "prenorm"] = Field("paper", description="the paper's layers, or norm and SiLU before each")
    norm: Literal["group", "none"] = Field("group", description="prenorm: GroupNorm of 16 channels a group, or none")
    upsample: Literal["shuffle", "transposed"] = Field("shuffle", description="prenorm: how the decoder doubles sizes")
    fine_blocks: int = Field(0, ge=0, le=16, description="prenorm: residual blocks after each doubling but the last")
    center: bool = Field(True, description="prenorm: input 4·(pixels − 0.47), output its inverse")
    output: Literal["linear", "sigmoid"] = Field(
        "linear", description="prenorm: last layer; linear: clamped in eval mode"
    )


class QuantizerConfig(ConfigSection):
    """The quantizer's independent axes; the layer refuses combinations that make no sense.

    ``family`` says how a vector becomes indices: ``vq`` by its nearest code, ``product`` by one code for each of
    ``heads`` groups of channels, ``residual`` by a sum of ``levels`` codes, for each of ``heads`` groups; ``fsq``,
    ``lfq`` and ``bsq`` round scalars and have no codebook that trains, and ``simvq`` trains one linear map of fixed
    codes. These four do without ``update``, ``init``, ``decay`` and restarts.

    Example:
        >>> QuantizerConfig(family="residual", levels=2, num_codes=32).bits
        10.0
    """

    family: Literal["vq", "product", "residual", "fsq", "lfq", "bsq", "simvq"] = Field(
        "vq", description="how a vector becomes indices"
    )
    num_codes: int = Field(1024, ge=1, le=1 << 20, description="K, codes in the codebook (§4.4.4)")
    dim: int = Field(64, ge=1, le=4096, description="D, channels of z_e (§4.4.4)")
    code_dim: int | None = Field(None, ge=1, le=4096, description="channels of a code, if lower than dim; null: dim")
    levels: int = Field(1, ge=1, le=64, description="residual: codes that are added up for a vector, or a group of it")
    heads: int = Field(1, ge=1, le=256, description="product and residual: groups of channels with codes of their own")
    shared: bool = Field(False, description="product and residual: one codebook for all heads and levels")
    joint: bool = Field(False, description="residual: the transport acts once, on z_e and the sum, not at each level")
    level_dropout: float = Field(
        0.0, ge=0, le=1, description="residual: share of training images that the first levels alone quantize"
    )
    beam: int = Field(1, ge=1, le=64, description="residual: candidates of the search at each level, in eval mode")
    fsq_levels: tuple[int, ...] = Field((), description="fsq: values of each scalar; num_codes is their product")
    transport: str = Field("rotation", description="name of a registered gradient transport")
    transport_fraction: float = Field(
        1.0, ge=0, le=1, description="part of the way from z_e to its code that a backward rule sees"
    )
    assignment: Literal["nearest", "gumbel"] = Field("nearest", description="how a code is chosen for a vector")
    distance: Literal["euclidean", "cosine"] = Field("euclidean", description="what nearest means")
    update: Literal["ema", "gradient"] = Field("ema", description="how the codes are trained")
    init: Literal["kmeans", "data", "uniform", "normal"] = Field("kmeans", description="first values of the codes")
    beta: float = Field(0.25, ge=0, le=100, description="weight of the commitment term (van den Oord et al., 2017)")
    decay: float = Field(0.99, gt=0, lt=1, description="EMA decay of counts and sums (Table 1)")
    restart_every: int = Field(20, ge=0, description="steps between restarts of dead codes; 0: no restarts")
    restart_share: float = Field(0.1, ge=0, le=1, description="a code is dead if used under this share of uniform use")
    restart_until: float = Field(1.0, ge=0, le=1, description="share of the steps, from the first, with restarts")
    start_after: int = Field(
        0, ge=0, description="first steps without quantization; then the codes start at vectors of many batches"
    )
    hard: bool = Field(True, description="gumbel: forward one code (true) or a mixture (false)")
    temperature: float = Field(1.0, gt=0, le=100, description="gumbel, sq_vae: temperature at the first step")
    temperature_end: float = Field(0.1, gt=0, le=100, description="gumbel, sq_vae: temperature at the last step")
    rule: str = Field("none", description="what a publication adds to the update, the loss or the choice of codes")
    rule_weight: float | None = Field(
        None, ge=0, le=1e6, description="weight of the rule's term of the loss; null: that of the publication"
    )

    @field_validator("transport")
    @classmethod
    def _registered(cls, value: str) -> str:
        if value == cls.model_fields["transport"].default:
            return value  # without the import of torch, whose seconds a completion of the shell would wait for
        from vqlab.quantize.transports import transport_names

        if value not in transport_names():
            raise ValueError(f"must be one of {', '.join(transport_names())}")
        return value

    @model_validator(mode="after")
    def _fits_family(self) -> QuantizerConfig:
        defaults = type(self).model_fields
        for name, families in _FIELDS_OF_FAMILIES.items():
            value = getattr(self, name)
            if value != defaults[name].default and self.family not in families:
                raise ValueError(
                    f"{name}={value}: has no effect with family={self.family}; leave it out, or set "
                    f"quantizer.family={families[-1]}"
                )
        if self.family == "product" and self.heads < 2:
            raise ValueError(f"heads={self.heads}: must be at least 2 with family=product; set quantizer.heads")
        if self.family == "residual" and self.levels < 2:
            raise ValueError(f"levels={self.levels}: must be at least 2 with family=residual; set quantizer.levels")
        if self.code_dim is None and self.dim % self.heads:
            raise ValueError(f"heads={self.heads}: must divide dim={self.dim} without code_dim; change one of them")
        if self.family != "vq" and self.assignment != "nearest":
            raise ValueError(f"assignment={self.assignment}: needs family=vq, not {self.family}; set nearest")
        if self.family not in ("vq", "product") and self.rule != "none":
            raise ValueError(f"rule={self.rule}: needs a codebook and one code for each vector; set family=vq, or none")
        if self.family in FIXED_CODES:
            self._check_fixed_codes()
        if self.family == "simvq" and self.start_after:
            raise ValueError(f"start_after={self.start_after}: the codes of family=simvq are fixed; set 0")
        return self

    def _check_fixed_codes(self) -> None:
        """Check the sizes of a family whose codes are the values of scalars."""
        if self.code_dim is not None:
            raise ValueError(f"code_dim={self.code_dim}: follows from the codes with family={self.family}; set null")
        levels = math.prod(self.fsq_levels) if self.fsq_levels else 0
        if self.family == "fsq" and levels != self.num_codes:
            raise ValueError(
                f"num_codes={self.num_codes}: must be the product of fsq_levels={list(self.fsq_levels)}, for example "
                "1000 with [8,5,5,5]; change one of them"
            )
        if self.family != "fsq" and (self.num_codes < 2 or self.num_codes & (self.num_codes - 1)):
            raise ValueError(f"num_codes={self.num_codes}: must be a power of 2 with family={self.family}, as 1024")

    @field_validator("rule")
    @classmethod
    def _registered_rule(cls, value: str) -> str:
        if value == cls.model_fields["rule"].default:
            return value
        from vqlab.quantize.codebook_rules import rule_names

        if value not in rule_names():
            raise ValueError(f"must be one of {', '.join(rule_names())}")
        return value

    @model_validator(mode="after")
    def _rule_fits(self) -> QuantizerConfig:
        if self.rule == type(self).model_fields["rule"].default and self.rule_weight is None:
            return self
        from vqlab.quantize.codebook_rules import check_rule

        check_rule(
            self.rule, self.rule_weight, update=self.update, transport=self.transport, assignment=self.assignment,
            distance=self.distance,
        )  # fmt: skip
        return self

    @property
    def codes_per_vector(self) -> int:
        """Number of indices for one vector."""
        return self.heads * self.levels

    @property
    def place_names(self) -> list[str]:
        """Names of the indices of a vector in their order, as "level 1" or "head 1, level 1"; empty for one index."""
        parts = [
            [f"{name} {number + 1}" for number in range(count)]
            for name, count in (("head", self.heads), ("level", self.levels))
            if count > 1
        ]
        return [", ".join(names) for names in itertools.product(*parts)] if parts else []

    @property
    def bits(self) -> float:
        """Bits of the indices of one vector."""
        return self.codes_per_vector * math.log2(self.num_codes)


# Families whose codes follow from a rule: no codebook is trained.
FIXED_CODES = ("fsq", "lfq", "bsq")
# Fields that only some families read; the last one is the family that a message names.
_FIELDS_OF_FAMILIES: dict[str, tuple[str, ...]] = {
    "heads": ("residual", "product"),
    "shared": ("product", "residual"),
    "levels": ("residual",),
    "joint": ("residual",),
    "level_dropout": ("residual",),
    "beam": ("residual",),
    "fsq_levels": ("fsq",),
}


class VAEConfig(ConfigSection):
    """The VAE baseline (§4.1.3): one Gaussian latent vector for the whole image."""

    latent_dim: int = Field(128, ge=1, le=4096, description="dimensions of the Gaussian latent vector")
    kl_weight: float = Field(1.0, ge=0, le=100, description="weight of the KL term; 1 gives the ELBO")


class GANConfig(ConfigSection):
    """The GAN baseline (§4.1.3), of DCGAN's size at 32 pixels; its learning rate is optim.learning_rate."""

    latent_dim: int = Field(128, ge=1, le=4096, description="dimensions of the Gaussian noise")
    width: int = Field(64, ge=4, le=1024, description="channels of the feature map next to the image")
    loss: Literal["hinge", "nonsaturating"] = Field("hinge", description="adversarial loss")
    discriminator: Literal["dcgan", "sngan"] = Field(
        "dcgan", description="three 4x4 convolutions, or seven of 3x3 and 4x4 as Miyato et al., 2018"
    )
    spectral_norm: bool = Field(True, description="spectral normalisation of the discriminator")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first decay rate, both networks")


class PriorConfig(ConfigSection):
    """A prior over the code grids of the VQ-VAE that the rest of the Config describes."""

    kind: Literal["none", "transformer", "diffusion"] = Field("none", description="the prior to train on the VQ-VAE")
    width: int = Field(128, ge=8, le=4096, multiple_of=8, description="channels of the prior")
    layers: int = Field(4, ge=1, le=64, description="transformer: blocks")
    heads: int = Field(4, ge=1, le=64, description="transformer: attention heads; must divide width")
    drop_label: float = Field(0.1, ge=0, le=1, description="share of labels dropped, to allow sampling without a class")
    noise_steps: int = Field(1000, ge=10, le=10_000, description="diffusion: steps of the noise schedule")
    sample_steps: int = Field(50, ge=1, le=1000, description="diffusion: denoising steps of a sample (DDIM)")
    epochs: int = Field(2, ge=1, le=100_000, description="passes over the code grids")
    batch_size: int = Field(64, ge=1, le=65_536, description="code grids in a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's first learning rate; decays linearly to 0")


class LossConfig(ConfigSection):
    """The reconstruction term and perceptual terms (§4.4.3); the VQ term's weight is quantizer.beta."""

    reconstruction: Literal["mse", "l1"] = Field("mse", description="squared or absolute error of the pixels")
    scale_by_variance: bool = Field(
        True, description="divide by the variance of the training pixels, so that beta means the same on any data"
    )
    vgg: float = Field(0.0, ge=0, le=1000, description="weight of the VGG16 feature loss; 0: off")
    lpips: float = Field(0.0, ge=0, le=1000, description="weight of LPIPS; 0: off")
    classifier: float = Field(0.0, ge=0, le=1000, description="weight of the feature classifier's loss; 0: off")
    adversarial: float = Field(
        0.0, ge=0, le=1000, description="VQ-VAE: weight of a patch discriminator's term (Esser et al., 2021); 0: off"
    )
    adversarial_start: float = Field(
        0.0, ge=0, lt=1, description="share of the steps before the adversarial term and its discriminator"
    )
    discriminator_width: int = Field(32, ge=1, le=1024, description="channels of the discriminator's first layer")
    discriminator_learning_rate: float = Field(2e-4, gt=0, le=1, description="Adam's rate of the discriminator")


class OptimConfig(ConfigSection):
    """Adam and its schedule (Table 1)."""

    epochs: int = Field(3, ge=1, le=100_000, description="passes over the training images (Table 1)")
    batch_size: int = Field(128, ge=1, le=65_536, description="images in a step, of all processes together (Table 1)")
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Adam's learning rate (Table 1)")
    optimizer: Literal["adam", "adamw", "muon"] = Field(
        "adam", description="muon: Muon for convolution kernels but the first and last, AdamW for the rest"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's decay of the mean of gradients")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's decay of the mean of squared gradients")
    weight_decay: float = Field(0.0, ge=0, le=10, description="L2 term with adam, decoupled with adamw and muon")
    muon_learning_rate: float = Field(4e-3, gt=0, le=1, description="muon: learning rate of the convolution kernels")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="decay of the learning rate to 0")
    warmup: float = Field(0.0, ge=0, le=1, description="share of the steps in which the learning rate rises linearly")
    clip_norm: float = Field(0.0, ge=0, le=1e6, description="largest norm of the gradient of all weights; 0: no limit")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the average of the weights that is evaluated and stored; 0: no average"
    )
    decoder_phase: float = Field(
        0.0, ge=0, lt=1, description="share of the steps, at the end, that train the decoder alone (VQ-VAE)"
    )
    accumulate: int = Field(
        1, ge=1, le=65_536, description="parts of a batch that are computed one after another (VQ-VAE), to save memory"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="arithmetic of the networks (autocast; fp16 with a scaled loss)"
    )
    compile: bool = Field(False, description="compile the model with torch.compile")
    on_nonfinite: Literal["stop", "skip"] = Field(
        "stop", description="loss or gradient that is NaN or infinite: stop, or take the step back and go on"
    )


class EvaluationConfig(ConfigSection):
    """How often a Run is logged, saved and measured."""

    log_every: int = Field(10, ge=1, description="steps between rows of metrics.jsonl")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints; each epoch ends with one, too")
    checkpoint_minutes: float = Field(
        10.0, ge=0, le=100_000, description="minutes after which a checkpoint is due, too; 0: no limit"
    )
    weights: Literal["last", "best"] = Field(
        "last",
        description="weights of the finished Run: last step, or epoch with the best PSNR of validation images",
    )
    batch_size: int = Field(256, ge=1, le=65_536, description="images in a step of evaluation")
    samples: int | None = Field(None, ge=2, description="samples to compare; null: as many as test images")


class Config(ConfigSection):
    """Everything that decides what a Run computes; the same Config gives the same Run.

    A Config cannot be changed in place: ``replace`` makes another one. ``vqlab config`` and ``describe_fields`` list
    every field with its default, range and meaning.

    Example:
        >>> config = Config.profile("paper", **{"quantizer.transport": "straight_through"})
        >>> config.quantizer.num_codes, config.kind, config.grid
        (1024, 'vqvae', (8, 8))
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    vae: VAEConfig = VAEConfig()
    gan: GANConfig = GANConfig()
    prior: PriorConfig = PriorConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(0, ge=0, lt=2**31, description="seed of every random generator of the Run")

    @model_validator(mode="after")
    def _check_grid(self) -> Config:
        factor = 1 << self.model.downsample
        for field, pixels in self.data.sizes.items():
            if pixels % factor:
                raise ValueError(
                    f"{field}={pixels}: must be a multiple of 2**model.downsample = {factor}; change one of the two"
                )
            if self.data.crop_padding >= pixels:
                raise ValueError(
                    f"data.crop_padding={self.data.crop_padding}: must be below {field}={pixels}; lower it"
                )
            if self.loss.lpips and pixels < _LPIPS_PIXELS:
                raise ValueError(
                    f"loss.lpips={self.loss.lpips:g}: needs images of at least {_LPIPS_PIXELS} pixels a side, not "
                    f"{field}={pixels}; raise it, or set loss.lpips=0"
                )
        return self

    @model_validator(mode="after")
    def _check_kind(self) -> Config:
        if self.prior.kind != "none" and self.model.kind != "vqvae":
            raise ValueError(f"prior.kind={self.prior.kind}: needs model.kind=vqvae; set it, or prior.kind=none")
        if self.prior.kind == "diffusion" and self.quantizer.codes_per_vector > 1:
            raise ValueError(
                f"prior.kind=diffusion: needs one code for each vector, not {self.quantizer.codes_per_vector}; "
                "set prior.kind=transformer, or quantizer.family=vq"
            )
        if self.prior.width % self.prior.heads:
            raise ValueError(f"prior.width={self.prior.width}: must be a multiple of prior.heads={self.prior.heads}")
        if self.prior.sample_steps > self.prior.noise_steps:
            raise ValueError(
                f"prior.sample_steps={self.prior.sample_steps}: must be at most prior.noise_steps="
                f"{self.prior.noise_steps}; lower it"
            )
        for field, pixels in self.data.sizes.items():
            if self.prior.kind == "diffusion" and (pixels >> self.model.downsample) % 2:
                raise ValueError(
                    "prior.kind=diffusion: needs a code grid of even height and width, not "
                    f"{self.grid[0]}x{self.grid[1]}; change model.downsample, or {field}={pixels} to a multiple of "
                    f"2**(model.downsample + 1) = {2 << self.model.downsample}"
                )
            if self.model.kind == "gan" and pixels != _GAN_PIXELS:
                raise ValueError(f"{field}={pixels}: must be {_GAN_PIXELS} for model.kind=gan; set {_GAN_PIXELS}")
        if self.loss.adversarial and self.model.kind != "vqvae":
            raise ValueError(
                f"loss.adversarial={self.loss.adversarial}: needs model.kind=vqvae; set it, or loss.adversarial=0"
            )
        if self.optim.accumulate > 1 and (self.kind != "vqvae" or self.loss.adversarial):
            raise ValueError(
                f"optim.accumulate={self.optim.accumulate}: needs a VQ-VAE without prior and loss.adversarial; set "
                "optim.accumulate=1"
            )
        if self.optim.precision == "fp16" and self.loss.adversarial:
            raise ValueError(
                f"optim.precision=fp16: needs loss.adversarial=0, not {self.loss.adversarial:g}, whose weight needs "
                "gradients without a scale; set optim.precision=bf16 or fp32"
            )
        if self.optim.accumulate > self.optim.batch_size:
            raise ValueError(
                f"optim.accumulate={self.optim.accumulate}: must be at most optim.batch_size="
                f"{self.optim.batch_size}; lower it"
            )
        if self.evaluation.weights == "best" and (self.kind not in ("vqvae", "vae") or not self.data.validation):
            raise ValueError(
                "evaluation.weights=best: needs a VQ-VAE or a VAE, and data.validation above 0 to choose by; set "
                "data.validation, or evaluation.weights=last"
            )
        if self.model.kind == "gan" and self.optim.optimizer != "adam":
            raise ValueError(f"optim.optimizer={self.optim.optimizer}: must be adam for model.kind=gan; set adam")
        return self

    @property
    def kind(self) -> str:
        """What a Run of this Config holds: vqvae, vae, gan, transformer or diffusion."""
        return self.model.kind if self.prior.kind == "none" else self.prior.kind

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the code grid."""
        _, height, width = self.data.shape
        return height >> self.model.downsample, width >> self.model.downsample

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the codes of an image: ``grid``, with a last axis of n for n codes a vector."""
        places = self.quantizer.codes_per_vector
        return self.grid if places == 1 else (*self.grid, places)

    def without_memory(self) -> Config:
        """This Config without ``data.memory``, as Runs store it.

        Returns:
            A Config of the same id.
        """
        return self.model_copy(update={"data": self.data.model_copy(update={"memory": None})})

    def codec(self) -> Config:
        """The VQ-VAE under a prior.

        Returns:
            This Config with the default ``prior`` section.
        """
        return self.model_copy(update={"prior": PriorConfig()})

    @property
    def id(self) -> str:
        """Twelve hex digits that name this Config: SHA-256 of the values that differ from the defaults.

        So a field that a later version adds leaves existing ids unchanged. ``data.memory`` is left out, because it
        changes no number.
        """
        values = self.without_memory().model_dump(mode="json", exclude_defaults=True)
        text = json.dumps([DEFAULTS_VERSION, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def parse(cls, values: dict[str, Any], *, as_stored: bool = False) -> Config:
        """Build a Config from nested values, as ``config.json`` of a Run holds them.

        Args:
            values: sections and their fields; what is missing has its default.
            as_stored: whether a relative path in ``data.source`` stays as it is, as Runs of version 0.1 may have it.
                Default False: it becomes absolute.

        Returns:
            The Config.

        Raises:
            InputError: if a key is unknown or a value is out of range; one line names field, value and range.
        """
        try:
            return cls.model_validate(values, context=_AS_STORED if as_stored else None)
        except ValidationError as error:
            raise InputError(_describe_error(error)) from None

    def replace(self, **changes: Any) -> Config:
        """Copy the Config with some fields changed.

        Args:
            **changes: values by dotted field, as in ``replace(**{"quantizer.transport": "rodrigues"}, seed=1)``.

        Returns:
            The new Config.

        Raises:
            InputError: if a field is unknown (the message names the nearest ones) or a value is out of range.
        """
        values = self.model_dump()
        for key, value in changes.items():
            *path, last = key.split(".")
            section: Any = values
            for name in path:
                section = section.get(name) if isinstance(section, dict) else None
            if not isinstance(section, dict) or last not in section:
                raise InputError(unknown_key(key))
            section[last] = value
        return type(self).parse(values)

    @classmethod
    def profile(cls, name: str = "quick", **changes: Any) -> Config:
        """Build a named Config.

        Args:
            name: ``quick`` (small models, less than 20 seconds), ``paper`` (the paper's settings), ``best`` (the same
                images, codes and epochs with a better network and optimizer), ``best-long`` (the same with more blocks
                and 20 epochs) or ``gpu`` (a wider model, 100 epochs, bf16, compiled).
            **changes: values by dotted field, as for ``replace``.

        Returns:
            The Config.

        Raises:
            InputError: if the profile or a field is unknown, or a value is out of range.
        """
        if name not in PROFILES:
            raise InputError(f"profile={name!r}: must be one of {', '.join(PROFILES)}")
        return cls().replace(**{**_PROFILE_CHANGES[name], **changes})

    def earlier_spellings(self) -> Iterator[Config]:
        """List this Config with other spellings of its path, which version 0.1 took for other Configs.

        Yields:
            Configs with other ids; none unless ``data.source`` is ``folder:PATH``.
        """
        path = self.data.source.removeprefix("folder:")
        if path == self.data.source:
            return
        home, relative = os.path.expanduser("~"), os.path.relpath(path)
        spellings = [path, relative, f"./{relative}", *([f"~/{os.path.relpath(path, home)}"] if path != home else [])]
        for spelling in [*spellings[1:], *(f"{spelling}/" for spelling in spellings)]:
            if spelling != path:
                yield self.model_copy(update={"data": self.data.model_copy(update={"source": f"folder:{spelling}"})})

    def changes(self) -> dict[str, Any]:
        """List what differs from the defaults.

        Returns:
            Values by dotted field.
        """
        return dict(_flatten(self.model_dump(mode="json", exclude_defaults=True)))

    def __repr__(self) -> str:
        changes = ", ".join(f"{key}={value!r}" for key, value in self.changes().items())
        return f"Config({self.id}, {self.kind}{', ' + changes if changes else ''})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        from vqlab.quantize.display import summary_html

        epochs = self.optim.epochs if self.prior.kind == "none" else self.prior.epochs
        channels, height, width = self.data.shape
        numbers = {
            "codebook": f"{self.quantizer.num_codes} codes of {self.quantizer.code_dim or self.quantizer.dim} channels",
            "data": f"{self.data.source}, {height} × {width} pixels, {'colour' if channels == 3 else 'grey'}",
            "training": f"{epochs} epochs, seed {self.seed}",
            **{key: str(value) for key, value in self.changes().items() if key != "seed"},
        }
        return summary_html(f"Config {self.id}: {self.kind}", numbers)


_BEST: dict[str, Any] = {
    "model.block": "prenorm",
    "model.residual_blocks": 3,
    "model.fine_blocks": 1,
    "quantizer.transport": "straight_through",
    "quantizer.code_dim": 8,
    "quantizer.beta": 1.0,
    "quantizer.restart_share": 0.3,
    "data.crop_padding": 0,
    "optim.batch_size": 32,
    "optim.optimizer": "muon",
    "optim.learning_rate": 2e-3,
    "optim.schedule": "linear",
    "optim.warmup": 0.03,
}
_PROFILE_CHANGES: dict[str, dict[str, Any]] = {
    # The ingredients of ``best`` but for the transport, in sizes that train in less than 20 seconds on one core.
    "quick": {
        **{key: value for key, value in _BEST.items() if key != "quantizer.transport"},
        "model.hidden": 48,
        "model.residual_hidden": 24,
        "model.residual_blocks": 1,
        "model.fine_blocks": 0,
        "quantizer.num_codes": 512,
        "quantizer.dim": 32,
        "optim.batch_size": 16,
        "optim.learning_rate": 6e-3,
        "optim.muon_learning_rate": 12e-3,
        "data.train_limit": 2048,
        "data.test_limit": 512,
        "optim.epochs": 2,
    },
    "paper": {},
    "best": _BEST,
    "best-long": {**_BEST, "model.residual_blocks": 4, "model.fine_blocks": 2, "optim.epochs": 20},
    "gpu": {"optim.epochs": 100, "optim.precision": "bf16", "optim.compile": True, "model.hidden": 256},
}


@dataclass(frozen=True)
class FieldDescription:
    """One field of the Config in words.

    Attributes:
        key: dotted name, as ``--set`` and ``Config.replace`` take it.
        default: value without a profile.
        allowed: type and range, or the allowed values.
        meaning: what the field is for, with its unit and source.
        profiles: values of the profiles that differ from the default.
    """

    key: str
    default: Any
    allowed: str
    meaning: str
    profiles: Mapping[str, Any]


def describe_fields(section: str | None = None) -> list[FieldDescription]:
    """Describe the fields of the Config.

    Args:
        section: a section (``quantizer``) or one field (``quantizer.decay``); None for all fields.

    Returns:
        The fields in their order.

    Raises:
        InputError: if there is no such section or field; the message names the nearest ones.

    Example:
        >>> describe_fields("quantizer.decay")[0].allowed
        'float, above 0, below 1'
    """
    fields = [_describe(key, value, info) for key, value, info in _leaves(Config(), "")]
    if section is None:
        return fields
    selected = [field for field in fields if field.key == section or field.key.startswith(f"{section}.")]
    if not selected:
        raise InputError(unknown_key(section))
    return selected


def field_keys() -> list[str]:
    """List the dotted names of all fields; needs no torch, unlike their descriptions.

    Returns:
        The keys in the order of the fields.

    Example:
        >>> field_keys()[-1]
        'seed'
    """
    return [key for key, _, _ in _leaves(Config(), "")]


def field_values(config: Config) -> dict[str, Any]:
    """Read all fields of a Config by their dotted names.

    Args:
        config: the Config.

    Returns:
        Values by key, in the order of ``field_keys``.

    Example:
        >>> field_values(Config(seed=3))["seed"]
        3
    """
    return {key: value for key, value, _ in _leaves(config, "")}


def _leaves(values: BaseModel, prefix: str) -> Iterator[tuple[str, Any, FieldInfo]]:
    for name, info in type(values).model_fields.items():
        value, key = getattr(values, name), f"{prefix}{name}"
        if isinstance(value, ConfigSection):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value, info


def _describe(key: str, value: Any, info: FieldInfo) -> FieldDescription:
    profiles = {
        profile: changes[key] for profile, changes in _PROFILE_CHANGES.items() if changes.get(key, value) != value
    }
    return FieldDescription(key, value, _allowed(key, info), info.description or "", profiles)


_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}


def _allowed(key: str, info: FieldInfo) -> str:
    if key == "quantizer.transport":
        from vqlab.quantize.transports import transport_names

        return " | ".join(transport_names())
    if key == "quantizer.rule":
        from vqlab.quantize.codebook_rules import rule_names

        return " | ".join(rule_names())
    if isinstance(info.json_schema_extra, dict):
        return str(info.json_schema_extra["allowed"])
    if get_origin(info.annotation) is Literal:
        return " | ".join(map(str, get_args(info.annotation)))
    kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)] or [info.annotation]
    bounds = [
        f"{words} {getattr(bound, name):g}" if getattr(bound, name) < 1e6 else f"{words} {getattr(bound, name)}"
        for bound in info.metadata
        for name, words in _BOUNDS.items()
        if getattr(bound, name, None) is not None
    ]
    null = ["or null"] if type(None) in get_args(info.annotation) else []
    return ", ".join([getattr(kinds[0], "__name__", str(kinds[0])), *bounds, *null])


def unknown_key(key: str) -> str:
    """Word the error for a key that the Config does not have.

    Args:
        key: the dotted key that was given.

    Returns:
        One line with the nearest known keys and the command that lists all.
    """
    known = field_keys()
    sections = [name for name, info in Config.model_fields.items() if isinstance(info.default, ConfigSection)]
    nearest = difflib.get_close_matches(key, [*known, *sections], n=3, cutoff=0.5)
    last = key.rpartition(".")[2]
    named_alike = [name for name in known if last in (name.rpartition(".")[2], _initials(name.rpartition(".")[2]))]
    nearest = list(dict.fromkeys([*named_alike, *nearest]))[:3]
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    return f"{_shorten(key)}: unknown config key{hint}; `vqlab config` lists all keys"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}…"


def _describe_error(error: ValidationError) -> str:
    allowed = {field.key: field.allowed for field in describe_fields()}
    parts = []
    for item in error.errors():
        field = ".".join(map(str, item["loc"]))
        given = "" if isinstance(item["input"], dict | ConfigSection) else f"={reprlib.repr(item['input'])}"
        if item["type"] == "extra_forbidden":
            parts.append(unknown_key(field))
        elif item["type"] == "value_error":
            reason = item["msg"].removeprefix("Value error, ")
            parts.append(f"{field}{given}: {reason}" if field else reason)
        elif field in allowed:
            parts.append(f"{field}{given}: must be {allowed[field]}")
        else:
            command = f"vqlab config {field}".rstrip()
            parts.append(f"{field or 'config'}{given}: must hold fields by name; `{command}` lists them")
    return "; ".join(parts)
