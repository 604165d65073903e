"""Images of any height, width and one or three channels, from the Config to the page of a Run."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from vqlab import Config, InputError
from vqlab.config import DataConfig, GANConfig
from vqlab.data import Images, load_data
from vqlab.data.batches import crop_and_flip
from vqlab.data.decode import fit_image
from vqlab.data.upload import read_image
from vqlab.losses import PerceptualLoss
from vqlab.metrics import mse, psnr, ssim
from vqlab.metrics.features import Extractor
from vqlab.models import VAE, VQVAE, Classifier, CodeTransformer, LatentDiffusion
from vqlab.models.gan import Discriminator, Generator
from vqlab.models.patch_discriminator import PatchDiscriminator

SHAPES = [(1, 28, 28), (3, 64, 96), (1, 96, 32)]
SMALL = {
    "model.hidden": 8, "model.residual_hidden": 4, "quantizer.num_codes": 8, "quantizer.dim": 4, "prior.width": 8,
    "prior.heads": 2, "prior.layers": 1, "prior.noise_steps": 10, "prior.sample_steps": 2,
}  # fmt: skip


def config_of(shape: tuple[int, int, int], **changes: object) -> Config:
    channels, height, width = shape
    size = {"data.channels": channels, "data.height": height, "data.width": width}
    return Config().replace(**{**SMALL, **size, **changes})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=generator(seed))


def test_equal_sizes_have_one_spelling_and_one_id() -> None:
    square = Config().replace(**{"data.image_size": 64})
    assert Config().replace(**{"data.height": 64, "data.width": 64}) == square
    assert Config().replace(**{"data.image_size": 64, "data.height": 64}).id == square.id
    assert Config().replace(**{"data.height": 32, "data.width": None, "data.channels": 3}).id == Config().id
    wide = Config().replace(**{"data.image_size": 64, "data.width": 96})
    assert wide == Config().replace(**{"data.height": 64, "data.width": 96})
    assert wide.data.shape == (3, 64, 96)
    assert wide.grid == (16, 24)
    assert wide.replace(**{"data.width": 64}).id == square.id
    assert Config.parse(wide.model_dump(mode="json")).id == wide.id
    assert len({Config().id, square.id, wide.id, wide.replace(**{"data.channels": 1}).id}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.channels": 2}, "data.channels=2: must be 1 | 3"),
        ({"data.height": 30}, "data.height=30: must be int, at least 12, at most 512, a multiple of 4, or null"),
        ({"data.width": 1024}, "data.width=1024: must be int, at least 12"),
        ({"data.width": 36, "model.downsample": 3}, "data.width=36: must be a multiple of 2**model.downsample = 8"),
        ({"data.height": 12, "data.crop_padding": 12}, "data.crop_padding=12: must be below data.height=12; lower it"),
        ({"data.width": 12, "loss.lpips": 1}, "loss.lpips=1: needs images of at least 16 pixels a side, not"),
        ({"data.height": 28, "prior.kind": "diffusion"},
         "prior.kind=diffusion: needs a code grid of even height and width, not 7x8; change model.downsample, or "
         "data.height=28 to a multiple of 2**(model.downsample + 1) = 8"),
        ({"data.width": 64, "model.kind": "gan"}, "data.width=64: must be 32 for model.kind=gan; set 32"),
        ({"data.image_size": 128, "data.height": 64, "data.width": 96},
         "data: image_size=128 has no effect beside height=64 and width=96; change these, or leave it out"),
    ],
)  # fmt: skip
def test_a_size_that_a_part_cannot_take_is_refused_with_field_and_fix(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        Config().replace(**changes)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", ["paper", "prenorm"])
def test_autoencoders_return_images_of_the_shape_they_get(shape: tuple[int, int, int], block: str) -> None:
    config = config_of(shape, **{"model.block": block, "model.fine_blocks": 1})
    images = noise(2, *shape)
    codec = VQVAE(config.model, config.quantizer, channels=shape[0])
    output = codec(images)
    assert output.reconstruction.shape == images.shape
    assert output.quantized.indices.shape[1:] == config.grid == (shape[1] // 4, shape[2] // 4)
    assert codec.eval().decode(codec.encode(images)).shape == images.shape
    vae = VAE(config)
    assert vae(images).reconstruction.shape == vae.sample(2, generator()).shape == images.shape


@pytest.mark.parametrize("shape", [(1, 12, 12), (1, 28, 28), (3, 12, 96), (3, 96, 64), (1, 128, 512)])
def test_the_patch_discriminator_scores_images_of_every_size(shape: tuple[int, int, int]) -> None:
    scores = PatchDiscriminator(config_of(shape, **{"loss.discriminator_width": 2}))(noise(2, *shape))
    assert scores.shape[:2] == (2, 1)
    assert min(scores.shape) > 0


def test_the_gan_draws_and_judges_grey_images() -> None:
    config = GANConfig(width=4, latent_dim=8)
    images = Generator(config, 1)(torch.zeros(2, 8))
    assert images.shape == (2, 1, 32, 32)
    assert Discriminator(config, 1)(images).shape == (2,)


def test_priors_sample_grids_that_are_not_square() -> None:
    config = config_of((1, 32, 48))
    codes = torch.randint(8, (3, *config.grid), generator=generator())
    transformer = CodeTransformer(config, num_classes=2)
    assert transformer(codes).shape == (3, 8 * 12, 8)
    known = codes[0].clone()
    known[4:] = -1
    sampled = transformer.sample(2, known_codes=known)
    assert sampled.shape == (2, 8, 12)
    assert torch.equal(sampled[:, :4], codes[:1, :4].expand(2, -1, -1))
    diffusion = LatentDiffusion(config, num_classes=2)
    diffusion.set_code_statistics(noise(8, 4), codes)
    assert diffusion.sample(2).shape == (2, 8, 12)
    assert torch.isfinite(diffusion(codes, torch.zeros(3, dtype=torch.long), generator()))


def test_colours_become_the_luma_that_pillow_computes() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    pixels = torch.from_numpy(colours).permute(2, 0, 1)[None]
    grey = Images(pixels, torch.tensor([0])).to_grey()
    assert torch.equal(grey.pixels[0, 0], torch.from_numpy(expected.copy()))
    assert np.array_equal(fit_image(Image.fromarray(colours), 40, 24, "exact", "test", [], 1)[0], expected)
    assert grey.to_grey() is grey
    photos = load_data(DataConfig(channels=1, image_size=48, width=32, train_limit=3, test_limit=2))
    assert [photos.train.pixels.shape, photos.test.pixels.shape] == [(3, 1, 48, 32), (2, 1, 48, 32)]


def test_photographs_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(InputError, match="coffee, temple have no patch of 512x512 pixels"):
        load_data(DataConfig(image_size=512))


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (DataConfig(height=64, width=96, channels=1), "photo.png: 60x60 PNG, converted to grey, cropped to the central "
         "60x40, resized to 96x64"),
        (DataConfig(width=64, fit="pad"), "photo.png: 60x60 PNG, resized into 64x32"),
        (DataConfig(image_size=16, fit="exact"), "photo.png: 60x60 PNG, resized to 16x16"),
    ],
)  # fmt: skip
def test_an_upload_is_fitted_by_the_rules_of_the_run(config: DataConfig, wanted: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (60, 60), (250, 120, 10)).save(file, "PNG")
    pixels, description = read_image(file.getvalue(), config, "photo.png")
    assert (tuple(pixels.shape), description) == (config.shape, wanted)
    middle = pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2].tolist()
    assert middle == ([146] if config.channels == 1 else [250, 120, 10])
    assert (pixels[:, 0, 0].sum() == 0) == (config.fit == "pad")


def test_a_grey_upload_stays_grey() -> None:
    file = io.BytesIO()
    Image.new("L", (28, 28), 77).save(file, "PNG")
    pixels, description = read_image(file.getvalue(), DataConfig(image_size=28, channels=1), "digit.png")
    assert (pixels.unique().tolist(), description) == ([77], "digit.png: 28x28 PNG")


def test_crops_of_wide_grey_images_are_windows_of_the_reflected_image() -> None:
    pixels = torch.randint(256, (6, 1, 12, 20), generator=generator()).byte()
    padded = F.pad(pixels.float(), (2, 2, 2, 2), mode="reflect").byte()
    windows = padded.unfold(2, 12, 1).unfold(3, 20, 1).flatten(2, 3)  # (6, 1, 25, 12, 20)
    candidates = torch.cat([windows, windows.flip(-1)], dim=2)
    augmented = crop_and_flip(pixels, 2, generator(1))
    assert (candidates == augmented[:, :, None]).flatten(3).all(3).any(2).all()
    assert not torch.equal(augmented, pixels)


def test_measures_and_features_of_grey_images_are_those_of_their_repeated_channel() -> None:
    x, y = noise(3, 1, 28, 40), noise(3, 1, 28, 40, seed=1)
    colours = [image.repeat(1, 3, 1, 1) for image in (x, y)]
    for measure in (mse, psnr, ssim):
        torch.testing.assert_close(measure(x, y), measure(*colours))
    classifier = Classifier(4, seed=0).eval()
    assert torch.equal(classifier.features(x), classifier.features(colours[0]))
    assert Extractor("test", "test", classifier.features).features([x, y]).shape == (6, 128)
    loss = PerceptualLoss({"test": Difference()}, {"test": 1.0})
    assert float(loss(x, y)[0]) == float(loss(*colours)[0]) == pytest.approx(float((x - y).square().mean()), rel=1e-5)


class Difference(nn.Module):
    """A feature loss that takes three channels only."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1, bias=False)
        self.features.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self.features(x) - self.features(y)).square().mean()
