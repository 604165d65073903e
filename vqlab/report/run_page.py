"""One web page of one Run: images, code grids and usage, computed in advance, so that it needs no Python."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.pictures import data_url, encode_error_png, encode_png, error_map, tile_images, to_uint8
from vqlab.analysis.tokenizer import Tokenizer, image_metrics
from vqlab.config import FIXED_CODES, QuantizerConfig
from vqlab.errors import WorkError
from vqlab.files import write_atomic
from vqlab.frontend import shared_script, shared_styles
from vqlab.training import Run

_TEMPLATE = Path(__file__).parent / "run_page.html"
_MODULES = ("code_link", "code_grid", "code_caption", "code_patches", "usage_bars")
_MAX_CODES, _PALETTE_CODES = 512, 256
_PATCHES = 16
_MAX_PATCH_BYTES, _MIN_PATCH_BYTES = 3_000_000, 300_000
# Of vectors with several codes, so that the page keeps its size: places, codes of all places together, numbers of
# decoded levels, and counts of tokens.
_MAX_PLACES, _MAX_PLACE_CODES, _MAX_LEVELS, _MAX_COUNTS = 24, 1 << 15, 8, 200_000


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
        them: those of the codes in the images, then of the most used ones. Vectors of several codes have ``places``,
        the first ones, and images decoded from their first ``levels``; then some epochs are left out if there are
        many.
    """
    run, (_, height, width) = tokenizer.run, tokenizer.run.config.data.shape
    count = max(1, min(num_images, len(tokenizer.data.test), num_images * 64**2 // (height * width) or 1))
    indices = torch.linspace(0, len(tokenizer.data.test) - 1, count).long().tolist()
    places = CodePlaces(tokenizer)
    shown = _shown_places(places)
    levels = _spread(places.levels, _MAX_LEVELS)
    images = [_image_data(places, shown, levels, index) for index in indices]
    epochs = _shown_epochs(shown)
    sprites = [_image_url(tile_images(place.patches)) for place in shown]
    taken = 0 if len(shown) == 1 else sum(map(len, sprites)) + sum(len(str(image["decoded"])) for image in images)
    budget = max(_MIN_PATCH_BYTES, _MAX_PATCH_BYTES - taken) // len(shown)
    return {
        "title": f"Run {run.config.id} on {tokenizer.data.name}",
        "summary": _summary(tokenizer, "" if len(shown) == len(places.all) else f", the first {len(shown)} are shown"),
        "label": places.label,
        "levels": levels,
        "epochs": [epoch + 1 for epoch in epochs],
        "images": images,
        "places": [
            {
                "name": place.name,
                "codes": place.size,
                "level": place.level,
                "sprite": sprite,
                "palette": np.argsort(-place.usage[-1], kind="stable")[:_PALETTE_CODES].tolist(),
                "usage": place.usage[epochs].tolist(),
                "patches": _patches(place, [image["grids"][number] for image in images], len(shown), budget),
            }
            for number, (place, sprite) in enumerate(zip(shown, sprites, strict=True))
        ],
    }


def _shown_places(places: CodePlaces) -> list[CodePlace]:
    """The first places, as many as the page has room for."""
    fitting = int((np.cumsum([place.size for place in places.all]) <= _MAX_PLACE_CODES).sum())
    return places.all[: max(1, min(_MAX_PLACES, fitting))]


def _spread(count: int, most: int) -> list[int]:
    """Evenly spaced whole numbers from 1 to ``count``, both included, at most ``most``."""
    return np.unique(np.linspace(1, count, min(count, most)).round().astype(int)).tolist()


def _shown_epochs(places: list[CodePlace]) -> list[int]:
    """Epochs, from 0, whose usage the page has: all of them for one code a vector."""
    epochs = len(places[0].usage)
    most = epochs if len(places) == 1 else max(2, _MAX_COUNTS // sum(place.size for place in places))
    return [epoch - 1 for epoch in _spread(epochs, most)]


def _image_data(places: CodePlaces, shown: list[CodePlace], levels: list[int], index: int) -> dict[str, Any]:
    tokenizer = places.tokenizer
    image = tokenizer.data.test.pixels[index].float() / 255
    grid = tokenizer.encode(image)
    return {
        "index": index,
        "grids": [place.read(grid).tolist() for place in shown],
        "original": _image_url(to_uint8(image)),
        "decoded": [_decoded(image, places.decode(grid, number)) for number in levels],
    }


def _decoded(image: Float[Tensor, "C H W"], reconstruction: Float[Tensor, "C H W"]) -> dict[str, Any]:
    metrics = image_metrics(image, reconstruction)
    return {
        **{name: round(value, 3) for name, value in metrics.items() if math.isfinite(value)},
        "reconstruction": _image_url(to_uint8(reconstruction)),
        "error": data_url(encode_error_png(error_map(image, reconstruction), small=True)),
    }


def _summary(tokenizer: Tokenizer, left_out: str) -> list[str]:
    config = tokenizer.run.config
    last = tokenizer.run.last_epoch_metrics()
    needed = ("images", "psnr", "ssim", "perplexity", "perplexity_window")
    if missing := [name for name in needed if last.get(name) is None]:
        raise WorkError(f"{tokenizer.run.folder / 'metrics.jsonl'}: the last epoch has no {missing[0]}; train again")
    return [
        f"transport {config.quantizer.transport}, {_codes(config.quantizer)}{left_out}, {config.optim.epochs} epochs, "
        f"seed {config.seed}",
        f"{last['images']:.0f} {last.get('part', 'test')} images: PSNR {last['psnr']:.2f} dB, SSIM {last['ssim']:.3f}, "
        f"perplexity {last['perplexity']:.0f} (over the {last['perplexity_window']})",
    ]


def _codes(settings: QuantizerConfig) -> str:
    """The codes of a vector in words."""
    if settings.family in FIXED_CODES:
        return f"family {settings.family}, {settings.num_codes} codes"
    each = f"{settings.num_codes} codes of dimension {settings.code_dim or settings.dim // settings.heads}"
    if settings.codes_per_vector == 1:
        return each
    places = f"heads × levels: {settings.heads} × {settings.levels}"
    return f"{settings.codes_per_vector} codes a vector ({places}), each one of {each}"


def _codes_with_patches(grids: list[list[list[int]]], counts: np.ndarray, most: int) -> list[int]:
    """Select the codes of the images, then the most used ones."""
    in_images = {code for grid in grids for codes in grid for code in codes}
    order = sorted(range(len(counts)), key=lambda code: (code not in in_images, -int(counts[code])))
    return [code for code in order[:most] if code in in_images or counts[code]]


def _patches(place: CodePlace, grids: list[list[list[int]]], places: int, budget: int) -> dict[str, dict[str, Any]]:
    """Draw the image patches of each code beside each other."""
    drawn: dict[str, dict[str, Any]] = {}
    size = 0
    for code in _codes_with_patches(grids, place.usage[-1], _MAX_CODES // places):
        patches = place.nearest_patches(code, _PATCHES)
        if len(patches) and size < budget:
            drawn[str(code)] = {"url": _image_url(tile_images(patches, len(patches))), "count": len(patches)}
            size += len(drawn[str(code)]["url"])
    return drawn


def _image_url(pixels: UInt8[Tensor, "C H W"]) -> str:
    return data_url(encode_png(pixels, small=True))


def _script_json(value: Any) -> str:
    """Encode as JSON for a <script> element: ``<`` is escaped, so that no text in the data can end the element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
