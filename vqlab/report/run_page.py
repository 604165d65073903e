"""One web page of one Run: images, code grids and usage, computed in advance, so that it needs no Python."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vqlab.analysis.pictures import data_url, encode_error_png, encode_png, error_map, tile_images, to_uint8
from vqlab.analysis.tokenizer import Tokenizer, image_metrics
from vqlab.training import Run
from vqlab.training.files import write_atomic

_TEMPLATE = Path(__file__).parent / "run_page.html"
_MAX_CODES = 512
_PATCHES = 8


def write_run_page(run: Run, path: Path, num_images: int = 16) -> Path:
    """Write the page of a Run: one HTML file under 5 MB that loads nothing from a network.

    Args:
        run: a finished Run of a VQ-VAE.
        path: the page to write; missing folders are created.
        num_images: number of test images, see ``run_page_data``.

    Returns:
        ``path``.

    Raises:
        InputError: if the Run is not a finished VQ-VAE, is damaged, or its folder no longer exists.
    """
    data = _script_json(run_page_data(Tokenizer(run), num_images))
    page = _TEMPLATE.read_text().replace("/*DATA*/null", data)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda temporary: temporary.write_text(page))
    return path


def run_page_data(tokenizer: Tokenizer, num_images: int = 16) -> dict[str, Any]:
    """Compute what the page of a Run shows.

    Args:
        tokenizer: the opened Run.
        num_images: number of test images, at evenly spaced indices, at least 1; reduced in proportion to the number
            of pixels for images larger than 64 × 64.

    Returns:
        JSON values; pictures are data URLs. Image patches are included for at most 512 codes: those in the images
        and the most used ones.
    """
    run, size = tokenizer.run, tokenizer.run.config.data.image_size
    count = max(1, min(num_images, len(tokenizer.data.test), num_images * 64**2 // size**2 or 1))
    indices = torch.linspace(0, len(tokenizer.data.test) - 1, count).long().tolist()
    images = [_image_data(tokenizer, index) for index in indices]
    codes = _codes_with_patches(images, tokenizer.usage[-1])
    return {
        "title": f"Run {run.config.id} on {tokenizer.data.name}",
        "summary": _summary(tokenizer),
        "codes": tokenizer.num_codes,
        "sprite": _image_url(tile_images(tokenizer.code_patches)),
        "spriteColumns": math.ceil(math.sqrt(tokenizer.num_codes)),
        "images": images,
        "usage": tokenizer.usage.tolist(),
        "patches": {str(code): _patches_url(tokenizer, code) for code in codes},
    }


def _image_data(tokenizer: Tokenizer, index: int) -> dict[str, Any]:
    image = tokenizer.data.test.pixels[index].float() / 255
    grid = tokenizer.encode(image)
    reconstruction = tokenizer.decode(grid)
    metrics = image_metrics(image, reconstruction)
    return {
        "index": index,
        "grid": grid.tolist(),
        **{name: round(value, 3) for name, value in metrics.items() if math.isfinite(value)},
        "original": _image_url(to_uint8(image)),
        "reconstruction": _image_url(to_uint8(reconstruction)),
        "error": data_url(encode_error_png(error_map(image, reconstruction), small=True)),
    }


def _summary(tokenizer: Tokenizer) -> list[str]:
    config = tokenizer.run.config
    rows = tokenizer.run.metrics()
    last = rows[rows["kind"] == "epoch"].iloc[-1]
    return [
        f"transport {config.quantizer.transport}, {config.quantizer.num_codes} codes of dimension "
        f"{config.quantizer.code_dim or config.quantizer.dim}, {config.optim.epochs} epochs, seed {config.seed}",
        f"{last['images']} {last.get('part', 'test')} images: PSNR {last['psnr']:.2f} dB, SSIM {last['ssim']:.3f}, "
        f"perplexity {last['perplexity']:.0f} (over the {last['perplexity_window']})",
    ]


def _codes_with_patches(images: list[dict[str, Any]], counts: np.ndarray) -> list[int]:
    """Select the codes of the images, then the most used ones."""
    in_images = {code for image in images for codes in image["grid"] for code in codes}
    order = sorted(range(len(counts)), key=lambda code: (code not in in_images, -int(counts[code])))
    return [code for code in order[:_MAX_CODES] if code in in_images or counts[code]]


def _patches_url(tokenizer: Tokenizer, code: int) -> str:
    patches = tokenizer.nearest_patches(code, _PATCHES)
    return _image_url(tile_images(patches, len(patches), gap=1)) if len(patches) else ""


def _image_url(pixels: UInt8[Tensor, "3 H W"]) -> str:
    return data_url(encode_png(pixels, small=True))


def _script_json(value: Any) -> str:
    """Encode as JSON for a <script> element: ``<`` is escaped, so that no text in the data can end the element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
