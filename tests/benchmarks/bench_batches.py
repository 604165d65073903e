"""Speed of augmented batches from memory and from a per-image DataLoader, on one core.

Run with: pytest tests/benchmarks/bench_batches.py
"""

from collections.abc import Iterable

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from vqlab.data import Images, batches

COUNT, BATCH_SIZE = 4096, 128


class PerImageDataset(Dataset):  # type: ignore[type-arg]
    """The usual dataset: PIL transforms of one image at a time."""

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


def memory_batches(images: Images) -> Iterable[object]:
    return batches(images, BATCH_SIZE, seed=0, epoch=0, augment=True)


def data_loader(images: Images) -> Iterable[object]:
    return DataLoader(PerImageDataset(images), BATCH_SIZE, shuffle=True)


@pytest.mark.parametrize("build_batches", [memory_batches, data_loader])
def test_epoch(benchmark, build_batches) -> None:  # type: ignore[no-untyped-def]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (COUNT, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = Images(pixels, torch.zeros(COUNT, dtype=torch.int64))
    benchmark.pedantic(lambda: sum(1 for _ in build_batches(images)), rounds=7, warmup_rounds=1)
    torch.set_num_threads(threads)
