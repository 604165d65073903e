"""A finished VQ-VAE as a tokenizer: images to code grids and back, and patches of each code."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor

from vqlab.analysis.pictures import to_uint8
from vqlab.data import ImageData
from vqlab.errors import InputError
from vqlab.metrics import psnr, ssim
from vqlab.quantize import TokenLayout
from vqlab.training import Run

Image = Float[Tensor, "C H W"]
# With several codes for a vector, the last axis is theirs.
CodeGrid = Int[Tensor, "h w *codes"]

_MAX_TOKEN_IMAGES = 512
_UNIFORM_GRID_SIZE = 4
_SSIM_WINDOW = 11
_GREY = 128


class Tokenizer:
    """Encode and decode images with the model of a Run, on the CPU in eval mode.

    A code grid is (h, w), or with n codes for a vector (h, w, n): the heads of a product, the levels of a residual
    quantizer, or all levels of the first head, then those of the next. ``tokens`` writes it as the sequence that a
    language model reads. What is about single codes needs vectors of one code. Costly attributes are computed when
    they are first read.

    Args:
        run: a finished Run of a VQ-VAE.
        data: the images of the Run, if they are loaded already; None loads them when they are first used.

    Attributes:
        run: the Run.
        model: its model.
        num_codes: number of codes K.
        layout: how a code grid becomes tokens.
        patch_size: pixels along a side of the image patch that one code describes.

    Raises:
        InputError: if the folder of the Run does not exist, or the Run is not a VQ-VAE, not finished or damaged.
    """

    def __init__(self, run: Run, data: ImageData | None = None) -> None:
        if not run.folder.is_dir():
            raise InputError(f"run {run.folder}: the folder does not exist; train it again or use another run")
        if run.config.kind != "vqvae":
            raise InputError(f"run {run.folder}: is a {run.config.kind}, which has no codebook; give a VQ-VAE's Run")
        self.run, self.model = run, run.model()
        self.num_codes = run.config.quantizer.num_codes
        self.layout = TokenLayout(self.num_codes, run.config.quantizer.codes_per_vector)
        self.patch_size = 1 << run.config.model.downsample
        self._data = data

    @cached_property
    def usage(self) -> Int64[np.ndarray, "epochs K"]:
        """Tokens of each code in each epoch of the training."""
        return self.run.usage()

    @cached_property
    def data(self) -> ImageData:
        """The training and test images of the Run."""
        return self._data or self.run.data()

    @torch.no_grad()
    def encode(self, image: Image) -> CodeGrid:
        """Encode one image.

        Args:
            image: pixels in [0, 1].

        Returns:
            The code grid: indices 0…K−1, (h, w), or (h, w, n) with n codes for a vector.
        """
        return self.model.encode(image[None])[0]

    @torch.no_grad()
    def decode(self, grid: CodeGrid) -> Image:
        """Decode one code grid.

        Args:
            grid: indices 0…K−1, as ``encode`` returns them. With several codes for a vector, −1 leaves one out: its
                level adds nothing, and the channels of its head are 0.

        Returns:
            The image in [0, 1].

        Raises:
            InputError: if an index is outside the codebook.
        """
        return self.model.decode(grid[None])[0]

    def tokens(self, image: Image) -> Int64[Tensor, " tokens"]:
        """Encode one image as a sequence of tokens: row by row, all codes of a vector before the next vector.

        Args:
            image: pixels in [0, 1].

        Returns:
            Tokens in 0…``layout.vocabulary``−1; ``TokenLayout`` describes their order. Equal tokens of different places
            of a vector are different codes, unless the places share a codebook.
        """
        return self.layout.tokens(self.encode(image), 2)

    def decode_tokens(self, tokens: Int[Tensor, " tokens"]) -> Image:
        """Decode a sequence of tokens.

        Args:
            tokens: tokens as ``tokens`` returns them.

        Returns:
            The image in [0, 1], that of ``decode`` for the code grid of the tokens.

        Raises:
            InputError: if there are more or fewer tokens than those of a grid, or one is outside the vocabulary.
        """
        return self.decode(self.layout.indices(tokens, self.run.config.grid))

    @cached_property
    def code_patches(self) -> UInt8[Tensor, "K C p p"]:
        """Decoded patch of each code, 0…255: the middle patch of a small grid that has only this code."""
        self._check_one_code()
        middle = _UNIFORM_GRID_SIZE // 2 * self.patch_size
        window = slice(middle, middle + self.patch_size)
        parts = []
        with torch.no_grad():
            for codes in torch.arange(self.num_codes).split(256):
                grids = codes[:, None, None].expand(-1, _UNIFORM_GRID_SIZE, _UNIFORM_GRID_SIZE)
                parts.append(to_uint8(self.model.decode(grids)[:, :, window, window]))
        return torch.cat(parts)

    def nearest_patches(self, code: int, count: int = 24) -> UInt8[Tensor, "n C P P"]:
        """Patches of the first test images that are encoded as a code.

        Args:
            code: index of the code.
            count: the largest number of patches.

        Returns:
            The patches with the encoder vector nearest to the code, nearest first, with one patch of context on each
            side, so P is three times ``patch_size``; 0…255, grey outside the image.
        """
        indices, distances = self._tokens
        matches = (indices == code).nonzero()
        order = distances[tuple(matches.T)].argsort()[:count]
        size, channels = self.patch_size, self.run.config.data.channels
        patches = []
        for image, row, column in matches[order].tolist():
            padded = F.pad(self.data.test.pixels[image], (size,) * 4, value=_GREY)
            patches.append(padded[:, row * size : (row + 3) * size, column * size : (column + 3) * size])
        return torch.stack(patches) if patches else torch.empty(0, channels, 3 * size, 3 * size, dtype=torch.uint8)

    @property
    def num_token_images(self) -> int:
        """Number of test images that ``nearest_patches`` and ``token_counts`` use."""
        return min(_MAX_TOKEN_IMAGES, len(self.data.test))

    def token_counts(self) -> Int64[Tensor, " K"]:
        """Count the tokens of each code in the first test images.

        Returns:
            The counts, (K,).
        """
        return torch.bincount(self._tokens[0].flatten(), minlength=self.num_codes)

    @cached_property
    def _tokens(self) -> tuple[Int64[Tensor, "N h w"], Float[Tensor, "N h w"]]:
        """Code and squared distance ‖e − q‖² of each token of the first test images."""
        self._check_one_code()
        indices, distances = [], []
        with torch.no_grad():
            for pixels in self.data.test.pixels[: self.num_token_images].split(128):
                z_e = self.model.encoder(pixels.float() / 255)
                out = self.model.quantizer(z_e)
                indices.append(out.indices)
                distances.append((z_e - out.z_q).square().sum(dim=1))
        return torch.cat(indices), torch.cat(distances)

    def _check_one_code(self) -> None:
        if (places := self.layout.codes_per_vector) > 1:
            raise InputError(
                f"run {self.run.folder}: its vectors have {places} codes each, so one code has no patch; use encode, "
                "decode and tokens, or a run with quantizer.family=vq"
            )


def image_metrics(image: Image, reconstruction: Image) -> dict[str, float]:
    """Compute PSNR and SSIM of one image.

    Args:
        image: pixels in [0, 1].
        reconstruction: pixels in [0, 1].

    Returns:
        ``psnr`` in dB, and ``ssim``, which is NaN for images smaller than its window of 11 pixels.

    Example:
        >>> image_metrics(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1))
        {'psnr': 20.0, 'ssim': nan}
    """
    pair = (reconstruction[None], image[None])
    small = min(image.shape[1:]) < _SSIM_WINDOW
    return {"psnr": float(psnr(*pair)), "ssim": float("nan") if small else float(ssim(*pair))}
