"""What a run is, as validated values: the Config tree, its id, and the named profiles."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vqlab.errors import InputError

PROFILES = ("quick", "paper", "gpu")


DEFAULTS_VERSION = 1


class ConfigSection(BaseModel):
    """A part of the Config: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataConfig(ConfigSection):
    """Which images, and how they are cropped and flipped (paper §4.1.1)."""

    source: str = Field("photos", description="photos | cifar10 | folder:PATH (folder or .tar/.tar.gz)")
    image_size: int = Field(32, ge=8, le=256, multiple_of=4, description="height and width, pixels")
    augment: bool = Field(True, description="random crop and horizontal flip of training images (§4.1.1)")
    crop_padding: int = Field(2, ge=0, le=16, description="reflected pixels around an image before the crop")
    train_limit: int | None = Field(None, ge=1, description="first images of a seeded shuffle; None: all")
    test_limit: int | None = Field(None, ge=1, description="first images of a seeded shuffle; None: all")
    on_broken: Literal["refuse", "skip"] = Field("refuse", description="what to do with an unreadable file")

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value in ("photos", "cifar10") or (value.startswith("folder:") and len(value) > len("folder:")):
            return value
        raise ValueError("must be photos, cifar10 or folder:PATH")


class ModelConfig(ConfigSection):
    """Encoder and decoder (paper §3.1.1, §3.3.1): strided convolutions and a residual stack."""

    kind: Literal["vqvae", "vae", "gan"] = Field("vqvae", description="what is trained (baselines: §4.1.3)")
    hidden: int = Field(128, ge=4, le=2048, description="channels of the feature maps")
    residual_blocks: int = Field(2, ge=0, le=16, description="blocks in each residual stack")
    residual_hidden: int = Field(64, ge=1, le=2048, description="channels inside a residual block")
    downsample: int = Field(2, ge=1, le=5, description="halvings of height and width; 2 gives 8x8 codes at 32 px")


class QuantizerConfig(ConfigSection):
    """The quantizer's independent axes (DESIGN §3); a senseless pair is refused by the layer."""

    num_codes: int = Field(1024, ge=1, le=1 << 20, description="K, codes in the codebook (§4.4.4)")
    dim: int = Field(64, ge=1, le=4096, description="D, channels of z_e (§4.4.4)")
    code_dim: int | None = Field(None, ge=1, le=4096, description="lower dimension of the codes; None: dim")
    transport: str = Field("rotation", description="name of a registered gradient transport")
    assignment: Literal["nearest", "gumbel"] = "nearest"
    distance: Literal["euclidean", "cosine"] = "euclidean"
    update: Literal["ema", "gradient"] = "ema"
    init: Literal["kmeans", "data", "uniform", "normal"] = "kmeans"
    beta: float = Field(0.25, ge=0, le=100, description="weight of the commitment term (van den Oord et al., 2017)")
    decay: float = Field(0.99, gt=0, lt=1, description="EMA decay of counts and sums (Table 1)")
    restart_every: int = Field(20, ge=0, description="steps between restarts of dead codes; 0: off")
    restart_share: float = Field(0.1, ge=0, le=1, description="dead: use under this share of the uniform share")
    hard: bool = Field(True, description="gumbel: one code forward (True) or a mixture (False)")
    temperature: float = Field(1.0, gt=0, le=100, description="gumbel: temperature at the first step")
    temperature_end: float = Field(0.1, gt=0, le=100, description="gumbel: temperature at the last step")

    @field_validator("transport")
    @classmethod
    def _registered(cls, value: str) -> str:
        from vqlab.quantize.transports import transport_names

        if value not in transport_names():
            raise ValueError(f"must be one of {', '.join(transport_names())}")
        return value


class VAEConfig(ConfigSection):
    """The VAE baseline (§4.1.3): one Gaussian latent vector for the whole image."""

    latent_dim: int = Field(128, ge=1, le=4096, description="dimensions of the Gaussian latent vector")
    kl_weight: float = Field(1.0, ge=0, le=100, description="weight of the KL term; 1: the ELBO itself")


class GANConfig(ConfigSection):
    """The GAN baseline (§4.1.3), of DCGAN's size at 32 px; its Adam has OptimConfig's learning rate."""

    latent_dim: int = Field(128, ge=1, le=4096, description="dimensions of the Gaussian noise")
    width: int = Field(64, ge=4, le=1024, description="channels of the feature map next to the image")
    loss: Literal["hinge", "nonsaturating"] = "hinge"
    spectral_norm: bool = Field(True, description="spectral normalisation of the discriminator")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first decay, both networks")


class PriorConfig(ConfigSection):
    """A prior over the code grids of the VQ-VAE that the rest of the Config describes."""

    kind: Literal["none", "transformer", "diffusion"] = "none"
    width: int = Field(128, ge=8, le=4096, multiple_of=8, description="channels of the prior")
    layers: int = Field(4, ge=1, le=64, description="transformer: blocks")
    heads: int = Field(4, ge=1, le=64, description="transformer: attention heads")
    drop_label: float = Field(0.1, ge=0, le=1, description="share of labels hidden, so that none may be given too")
    noise_steps: int = Field(1000, ge=10, le=10_000, description="diffusion: steps of the noise schedule")
    sample_steps: int = Field(50, ge=1, le=1000, description="diffusion: denoising steps of a sample (DDIM)")
    epochs: int = Field(2, ge=1, le=100_000, description="passes over the code grids")
    batch_size: int = Field(64, ge=1, le=65_536, description="code grids a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's first step size; falls linearly to 0")


class LossConfig(ConfigSection):
    """The reconstruction term and perceptual terms (§4.4.3); the VQ term's weight is QuantizerConfig.beta."""

    reconstruction: Literal["mse", "l1"] = "mse"
    scale_by_variance: bool = Field(
        True, description="divide by the training pixels' variance, so beta has one meaning on any data"
    )
    vgg: float = Field(0.0, ge=0, le=1000, description="weight of the VGG16 feature loss; 0: off")
    lpips: float = Field(0.0, ge=0, le=1000, description="weight of LPIPS; 0: off")
    classifier: float = Field(0.0, ge=0, le=1000, description="weight of the lab classifier's feature loss; 0: off")


class OptimConfig(ConfigSection):
    """Adam and its schedule (Table 1)."""

    epochs: int = Field(3, ge=1, le=100_000, description="passes over the training images (Table 1)")
    batch_size: int = Field(128, ge=1, le=65_536, description="images a step (Table 1)")
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Adam's step size (Table 1)")
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = Field(False, description="torch.compile the model")


class EvaluationConfig(ConfigSection):
    """How often a run looks at itself."""

    log_every: int = Field(10, ge=1, description="steps between rows of metrics.jsonl")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints; every epoch's end has one too")
    batch_size: int = Field(256, ge=1, description="images a step of evaluation")
    samples: int | None = Field(None, ge=2, description="samples that are compared; None: as many as test images")


class Config(ConfigSection):
    """Everything that decides what a run computes; the same Config gives the same Run.

    ``Config.id`` is a stable hash of all values. ``Config.parse`` raises InputError with one line.
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
    seed: int = Field(0, ge=0, lt=2**31, description="seed of every random generator of the run")

    @model_validator(mode="after")
    def _grid_fits(self) -> Config:
        if self.data.image_size % (1 << self.model.downsample):
            raise ValueError(f"data.image_size={self.data.image_size} must divide by 2**model.downsample")
        return self

    @model_validator(mode="after")
    def _kind_makes_sense(self) -> Config:
        if self.prior.kind != "none" and self.model.kind != "vqvae":
            raise ValueError(f"prior.kind={self.prior.kind}: a prior needs codes; set model.kind=vqvae")
        if self.prior.width % self.prior.heads:
            raise ValueError(f"prior.width={self.prior.width} must divide by prior.heads={self.prior.heads}")
        if self.prior.sample_steps > self.prior.noise_steps:
            raise ValueError(f"prior.sample_steps={self.prior.sample_steps}: at most prior.noise_steps")
        if self.model.kind == "gan" and self.data.image_size != 32:
            raise ValueError(f"data.image_size={self.data.image_size}: the GAN baseline is for 32 px; set 32")
        return self

    @property
    def kind(self) -> str:
        """What a Run of this Config holds: vqvae, vae, gan, transformer or diffusion."""
        return self.model.kind if self.prior.kind == "none" else self.prior.kind

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the code grid."""
        side = self.data.image_size >> self.model.downsample
        return side, side

    def codec(self) -> Config:
        """The Config of the VQ-VAE that a prior's Config stands on; itself where there is no prior."""
        return self.model_copy(update={"prior": PriorConfig()})

    @property
    def id(self) -> str:
        """Twelve hex digits that name this Config: SHA-256 of what differs from the defaults.

        So a field that a later version adds leaves old ids as they are. A default that changes must
        raise DEFAULTS, so that old and new runs never share an id.
        """
        text = json.dumps([DEFAULTS_VERSION, self.model_dump(mode="json", exclude_defaults=True)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Config:
        """Build a Config from nested values; raises InputError naming field, value, range and fix."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(_one_line(error)) from None

    def replace(self, **changes: Any) -> Config:
        """A copy with dotted fields changed, as in ``replace(**{"quantizer.transport": "rodrigues"})``."""
        values = self.model_dump()
        for key, value in changes.items():
            *path, last = key.split(".")
            section = values
            for name in path:
                if not isinstance(section.get(name), dict):
                    raise InputError(f"{key}: no such config section; use one of {', '.join(values)}")
                section = section[name]
            if last not in section:
                raise InputError(f"{key}={value!r}: unknown config key; use one of {', '.join(section)}")
            section[last] = value
        return type(self).parse(values)

    @classmethod
    def profile(cls, name: str = "quick", **changes: Any) -> Config:
        """A named Config (quick, paper, gpu) with dotted changes; raises InputError for another name."""
        if name not in PROFILES:
            raise InputError(f"profile={name!r}: must be one of {', '.join(PROFILES)}")
        return cls().replace(**{**_PROFILE_CHANGES[name], **changes})


_PROFILE_CHANGES: dict[str, dict[str, Any]] = {
    "quick": {
        "model.hidden": 64,
        "model.residual_hidden": 32,
        "quantizer.num_codes": 256,
        "quantizer.dim": 32,
        "optim.batch_size": 32,
        "data.train_limit": 2560,
        "data.test_limit": 512,
        "optim.epochs": 2,
    },
    "paper": {},
    "gpu": {"optim.epochs": 100, "optim.precision": "bf16", "optim.compile": True, "model.hidden": 256},
}


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "config"
        given = "" if isinstance(item["input"], dict | ConfigSection) else f"={item['input']!r}"
        if item["type"] == "extra_forbidden":
            parts.append(f"{field}{given}: unknown config key; see `vqlab train --help` for the known ones")
        else:
            parts.append(f"{field}{given}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)
