"""Training, validation and test images of a source that does not have all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from vqlab.data.layout import Place

# Share of the images that a missing part gets.
_SHARE = 0.1


def complete_parts(places: Sequence[Place]) -> tuple[list[Place], list[str]]:
    """Give every image a part, so that the source has training and test images.

    Validation images stand in for missing test images. If there are neither, a tenth of the images of each class (at
    least one of all) is drawn, by a shuffle with seed 0.

    Args:
        places: the images; part None if their path does not say it.

    Returns:
        The images, each with a part, and a sentence for each thing that was decided.
    """
    parts = {place.part for place in places}
    if "test" in parts and "train" in parts:
        return list(places), []
    if "validation" in parts and "train" in parts:
        renamed = [place._replace(part="test") if place.part == "validation" else place for place in places]
        return renamed, ["no test images: the validation images are used for them"]
    if len(parts) == 1 and parts <= {None, "train"}:
        chosen = _stratified(places)
        drawn = [place._replace(part="test" if index in chosen else "train") for index, place in enumerate(places)]
        return drawn, [f"no test images: {len(chosen)} of {len(places)} images were drawn for them, by class"]
    return list(places), []


def _stratified(places: Sequence[Place]) -> set[int]:
    """Indices of a tenth of each class, at least one image in total."""
    by_class: dict[str | None, list[int]] = defaultdict(list)
    for index in torch.randperm(len(places), generator=torch.Generator().manual_seed(0)).tolist():
        by_class[places[index].class_name].append(index)
    chosen = {index for members in by_class.values() for index in members[: round(_SHARE * len(members))]}
    largest = max(by_class.values(), key=len, default=[])
    return chosen or set(largest[:1])
