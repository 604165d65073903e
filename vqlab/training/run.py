"""A Run: the folder of one training, with its evaluation and its samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from vqlab.errors import InputError
from vqlab.metrics.distances import NOT_REQUESTED
from vqlab.training.device import find_device
from vqlab.training.evaluation import evaluate
from vqlab.training.files import read_json, write_json
from vqlab.training.run_folder import RunFolder
from vqlab.training.sampling import draw_samples


class Run(RunFolder):
    """One training of one Config: a folder with what was asked, what was logged and what came out.

    ``train(config)`` returns a Run; ``Run.open(folder)`` opens one. Every method reads the files of the folder when
    called, and nothing is unpickled.

    Attributes:
        folder: the folder of the Run.
        config: its Config.
    """

    def samples(self, count: int, *, seed: int = 0, device: str = "cpu", **settings: Any) -> Iterator[Tensor]:
        """Draw images from a VAE, a GAN or a prior.

        Args:
            count: how many images, at least 1.
            seed: the same seed, device and count give the same images.
            device: where to compute.
            **settings: for priors: ``label``, and for a transformer ``temperature``, ``top_k``, ``top_p``,
                ``known_codes``, ``use_cache``; see ``vqlab.models.sample_codes``.

        Returns:
            Batches of images in [0, 1], together (count, 3, H, W).

        Raises:
            InputError: a count below 1, a VQ-VAE without a prior, or a setting that the Run's kind does not have.
        """
        return draw_samples(self, count, seed=seed, device=device, **settings)

    def evaluation(self, device: str | None = None, *, inception: bool | None = None) -> dict[str, Any]:
        """Measure the Run on its test images once, and keep the result in ``evaluation.json``.

        Columns that a file of an older vqlab lacks are measured, as long as the images can be read.

        Args:
            device: where to compute; found (CUDA, else CPU) if None.
            inception: measure FID and KID too. None: on CUDA only, and not again where their weights could not be
                had before.

        Returns:
            The columns of ``vqlab.training.evaluation.evaluate``.

        Raises:
            InputError: training has not finished, or the images cannot be read and nothing was measured before.
        """
        path, device = self.folder / "evaluation.json", find_device(device)
        requested = device.startswith("cuda") if inception is None else inception
        stored = read_json(path) if path.is_file() else {}
        if _is_complete(stored, self.config.kind, inception=requested, retry=inception is True):
            return stored
        codec = self.codec()
        try:
            of_codec = {} if codec is self else codec.evaluation(device, inception=requested)
            measured = evaluate(self, device, inception=requested, of_codec=of_codec)
        except InputError:
            if not stored:
                raise
            return stored
        write_json(path, measured)
        return measured

    def __repr__(self) -> str:
        return f"Run({self.config.id}, {'finished' if self.finished else 'unfinished'}, {self.folder})"


def _is_complete(stored: dict[str, Any], kind: str, *, inception: bool, retry: bool) -> bool:
    """Whether ``stored`` has the distances of the kind; retry: measure again what could not be had before."""
    prefixes = {"vqvae": ("r",), "vae": ("r", "sample_")}.get(kind, ("sample_",))
    if not all(f"{prefix}fd_classifier" in stored for prefix in prefixes):
        return False
    reasons = [stored[f"{prefix}fid_reason"] for prefix in prefixes if stored[f"{prefix}fid"] is None]
    return not inception or not any(retry or reason == NOT_REQUESTED for reason in reasons)
