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
from vqlab.errors import WorkError
from vqlab.files import write_atomic
from vqlab.frontend import shared_script, shared_styles
from vqlab.training import Run

_TEMPLATE = Path(__file__).parent / "run_page.html"
_MODULES = ("code_link", "code_grid", "code_caption", "code_patches", "usage_bars")
_MAX_CODES, _PALETTE_CODES = 512, 256
_PATCHES = 16
_MAX_PATCH_BYTES = 3_000_000


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
    page = _TEMPLATE.read_text().replace("/*STYLES*/", shared_styles()).replace("/*MODULES*/", shared_script(*_MODULES))
    page = page.replace("/*DATA*/null", _script_json(run_page_data(Tokenizer(run), num_images)))
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
        JSON values; pictures are data URLs. Image patches are included for at most 512 codes, and at most 3 MB of
        them: those of the codes in the images, then of the most used ones.
    """
    run, (_, height, width) = tokenizer.run, tokenizer.run.config.data.shape
    count = max(1, min(num_images, len(tokenizer.data.test), num_images * 64**2 // (height * width) or 1))
    indices = torch.linspace(0, len(tokenizer.data.test) - 1, count).long().tolist()
    images = [_image_data(tokenizer, index) for index in indices]
    codes = _codes_with_patches(images, tokenizer.usage[-1])
    return {
        "title": f"Run {run.config.id} on {tokenizer.data.name}",
        "summary": _summary(tokenizer),
        "codes": tokenizer.num_codes,
        "sprite": _image_url(tile_images(tokenizer.code_patches)),
        "images": images,
        "palette": np.argsort(-tokenizer.usage[-1], kind="stable")[:_PALETTE_CODES].tolist(),
        "usage": tokenizer.usage.tolist(),
        "patches": _patches(tokenizer, codes),
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
    last = tokenizer.run.last_epoch_metrics()
    needed = ("images", "psnr", "ssim", "perplexity", "perplexity_window")
    if missing := [name for name in needed if last.get(name) is None]:
        raise WorkError(f"{tokenizer.run.folder / 'metrics.jsonl'}: the last epoch has no {missing[0]}; train again")
    return [
        f"transport {config.quantizer.transport}, {config.quantizer.num_codes} codes of dimension "
        f"{config.quantizer.code_dim or config.quantizer.dim}, {config.optim.epochs} epochs, seed {config.seed}",
        f"{last['images']:.0f} {last.get('part', 'test')} images: PSNR {last['psnr']:.2f} dB, SSIM {last['ssim']:.3f}, "
        f"perplexity {last['perplexity']:.0f} (over the {last['perplexity_window']})",
    ]


def _codes_with_patches(images: list[dict[str, Any]], counts: np.ndarray) -> list[int]:
    """Select the codes of the images, then the most used ones."""
    in_images = {code for image in images for codes in image["grid"] for code in codes}
    order = sorted(range(len(counts)), key=lambda code: (code not in in_images, -int(counts[code])))
    return [code for code in order[:_MAX_CODES] if code in in_images or counts[code]]


def _patches(tokenizer: Tokenizer, codes: list[int]) -> dict[str, dict[str, Any]]:
    """Draw the image patches of each code beside each other."""
    drawn: dict[str, dict[str, Any]] = {}
    size = 0
    for code in codes:
        patches = tokenizer.nearest_patches(code, _PATCHES)
        if len(patches) and size < _MAX_PATCH_BYTES:
            drawn[str(code)] = {"url": _image_url(tile_images(patches, len(patches))), "count": len(patches)}
            size += len(drawn[str(code)]["url"])
    return drawn


def _image_url(pixels: UInt8[Tensor, "C H W"]) -> str:
    return data_url(encode_png(pixels, small=True))


def _script_json(value: Any) -> str:
    """Encode as JSON for a <script> element: ``<`` is escaped, so that no text in the data can end the element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
