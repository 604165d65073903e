"""Augmented batches from memory beside a per-image DataLoader, on one core.

Run with: pytest tests/benchmarks/bench_batches.py
"""

from collections.abc import Iterable

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from vqlab.data import Images, batches

COUNT, BATCH = 4096, 128


class PerImage(Dataset):  # type: ignore[type-arg]
    """What a notebook usually does: one image at a time through PIL transforms."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=2, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(self.images.pixels[index]), self.images.labels[index]


def ours(images: Images) -> Iterable[object]:
    return batches(images, BATCH, seed=0, epoch=0, augment=True)


def theirs(images: Images) -> Iterable[object]:
    return DataLoader(PerImage(images), BATCH, shuffle=True)


@pytest.mark.parametrize("make", [ours, theirs])
def test_epoch(benchmark, make) -> None:  # type: ignore[no-untyped-def]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (COUNT, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = Images(pixels, torch.zeros(COUNT, dtype=torch.int64))
    benchmark.pedantic(lambda: sum(1 for _ in make(images)), rounds=7, warmup_rounds=1)
    torch.set_num_threads(threads)
