"""One page of one Run that can be mailed: images, codes and usage, computed beforehand, no server."""

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

_TEMPLATE = Path(__file__).parent / "explorer.html"
_MAX_CODES = 512
_PATCHES = 8


def write_explorer(run: Run, path: Path, images: int = 16) -> Path:
    """Write the page of ``run`` to ``path`` and return it; under 5 MB, nothing is fetched from elsewhere.

    images: test images, evenly spaced; fewer where they are larger than 64 pixels. Of codes, those in these images
    and the most used, 512 at most, come with the image patches nearest to them.
    Raises InputError for a Run that has not finished or whose folder is gone.
    """
    tokenizer = Tokenizer(run)
    page = _TEMPLATE.read_text().replace("/*DATA*/null", _script_json(explorer_data(tokenizer, images)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda beside: beside.write_text(page))
    return path


def explorer_data(tokenizer: Tokenizer, images: int = 16) -> dict[str, Any]:
    """What the page shows, as JSON values; pictures are data URLs."""
    run, size = tokenizer.run, tokenizer.run.config.data.image_size
    count = max(1, min(images, len(tokenizer.data.test), images * 64**2 // size**2 or 1))
    chosen = torch.linspace(0, len(tokenizer.data.test) - 1, count).long().tolist()
    shown = [_image(tokenizer, index) for index in chosen]
    return {
        "title": f"Run {run.config.id} on {tokenizer.data.name}",
        "facts": _facts(tokenizer),
        "codes": tokenizer.num_codes,
        "sprite": _image_url(tile_images(tokenizer.code_patches)),
        "spriteColumns": math.ceil(math.sqrt(tokenizer.num_codes)),
        "images": shown,
        "usage": tokenizer.usage.tolist(),
        "patches": {str(code): _patches(tokenizer, code) for code in _described_codes(shown, tokenizer.usage[-1])},
    }


def _image(tokenizer: Tokenizer, index: int) -> dict[str, Any]:
    image = tokenizer.data.test.pixels[index].float() / 255
    grid = tokenizer.encode(image)
    decoded = tokenizer.decode(grid)
    metrics = image_metrics(image, decoded)
    return {
        "index": index,
        "grid": grid.tolist(),
        **{name: round(value, 3) for name, value in metrics.items() if math.isfinite(value)},
        "original": _image_url(to_uint8(image)),
        "reconstruction": _image_url(to_uint8(decoded)),
        "error": data_url(encode_error_png(error_map(image, decoded), small=True)),
    }


def _facts(tokenizer: Tokenizer) -> list[str]:
    config = tokenizer.run.config
    rows = tokenizer.run.metrics()
    last = rows[rows["kind"] == "epoch"].iloc[-1]
    return [
        f"transport {config.quantizer.transport}, {config.quantizer.num_codes} codes of dimension "
        f"{config.quantizer.code_dim or config.quantizer.dim}, {config.optim.epochs} epochs, seed {config.seed}",
        f"{len(tokenizer.data.test)} test images: PSNR {last['psnr']:.2f} dB, SSIM {last['ssim']:.3f}, "
        f"perplexity {last['perplexity']:.0f} (over the {last['perplexity_window']})",
    ]


def _described_codes(shown: list[dict[str, Any]], counts: np.ndarray) -> list[int]:
    seen = {code for image in shown for codes in image["grid"] for code in codes}
    order = sorted(range(len(counts)), key=lambda code: (code not in seen, -int(counts[code])))
    return [code for code in order[:_MAX_CODES] if code in seen or counts[code]]


def _patches(tokenizer: Tokenizer, code: int) -> str:
    found = tokenizer.nearest_patches(code, _PATCHES)
    return _image_url(tile_images(found, len(found), gap=1)) if len(found) else ""


def _image_url(pixels: UInt8[Tensor, "3 H W"]) -> str:
    return data_url(encode_png(pixels, small=True))


def _script_json(value: Any) -> str:
    """JSON that may stand inside a <script>: no text of a data source can end it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
