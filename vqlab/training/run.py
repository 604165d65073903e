"""A Run: the folder of one training, with its evaluation and its samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vqlab.config import Config
from vqlab.data import load_data
from vqlab.errors import InputError
from vqlab.files import skip_if_read_only, write_json
from vqlab.metrics.distances import NOT_REQUESTED
from vqlab.metrics.pixels import pooled_psnr
from vqlab.training.device import find_device
from vqlab.training.display import describe_run, run_html
from vqlab.training.evaluation import evaluate, pixel_metrics
from vqlab.training.retraining import find_run
from vqlab.training.run_folder import RunFolder
from vqlab.training.run_values import read_measures
from vqlab.training.sampling import draw_samples
from vqlab.training.workers import Workers


class Run(RunFolder):
    """The training of one Config: a folder with the Config, the logs, the weights and what was measured.

    ``train(config)`` returns a Run, and ``Run.open(folder)`` opens one. Every method reads the files of the folder
    when it is called, and nothing is unpickled.

    Args:
        folder: the folder of the Run; use ``Run.open`` for an existing one.
        config: the Config of the Run.

    Attributes:
        folder: the folder of the Run.
        config: the Config of the Run.
    """

    def samples(
        self, count: int, *, seed: int = 0, device: str = "cpu", **settings: Any
    ) -> Iterator[Float[Tensor, "B C H W"]]:
        """Sample images from a VAE, a GAN or a prior.

        Args:
            count: number of images, at least 1.
            seed: seed of the random numbers; the same seed, device and count give the same images. Default 0.
            device: the torch device that computes.
            **settings: options of the Run's kind, see ``vqlab.training.sampling.draw_samples``.

        Returns:
            Batches of images in [0, 1], together (count, C, H, W).

        Raises:
            InputError: if ``count`` is below 1, the Run is that of a VQ-VAE without a prior, training has not
                finished, or the Run's kind does not have one of the settings.
        """
        return draw_samples(self, count, seed=seed, device=device, **settings)

    def evaluation(
        self, device: str | None = None, *, inception: bool | None = None, workers: Workers | None = None
    ) -> dict[str, Any]:
        """Measure the Run on its test images, or read the result of an earlier call from ``evaluation.json``.

        The Run is measured again if the file lacks columns, as that of an older version of vqlab may, provided that
        the images can be read.

        Args:
            device: the torch device that computes; None (default) selects CUDA if this machine has it, else the CPU.
            inception: whether FID and KID are measured, which needs the weights of Inception. None (default) measures
                them on CUDA only, and does not try again if the weights could not be had before.
            workers: processes that call this together, each for a part of the images, with a shared folder of Runs;
                see ``join_workers``. They have devices of their own, in place of ``device``. None (default): this one
                alone.

        Returns:
            The columns of ``vqlab.training.evaluation.evaluate``.

        Raises:
            InputError: if training has not finished, or the images cannot be read and no earlier result exists.
            ChangedDataError: if the images are not those that the Run was trained on.
        """
        self.check_data()
        workers = workers or Workers(device=find_device(device))
        path, device = self.folder / "evaluation.json", workers.device
        requested = device.startswith("cuda") if inception is None else inception
        stored = read_measures(path) if path.is_file() else {}
        if stored.get("mse") is not None:  # Runs of version 0.1 were measured without it
            stored.setdefault("psnr_pooled", pooled_psnr(stored["mse"]))
        complete = _is_complete(stored, self.config.kind, inception=requested, retry=inception is True)
        if workers.broadcast(complete):
            return stored
        codec = self.codec()
        try:
            codec_columns = {} if codec is self else codec.evaluation(inception=requested, workers=workers)
            columns = evaluate(self, device, inception=requested, codec_columns=codec_columns, workers=workers)
        except InputError:
            if not stored:
                raise
            return stored
        if workers.is_main:
            with skip_if_read_only(path):
                write_json(path, columns)
        return columns

    def evaluation_on(
        self, source: str, device: str | None = None, *, workers: Workers | None = None
    ) -> dict[str, Any]:
        """Measure the pixels of an autoencoder on the test images of another source, or read an earlier result.

        Args:
            source: as ``data.source`` of a Config: ``photos``, ``cifar10`` or ``folder:PATH``; all its test images.
            device: the torch device that computes; None (default) selects CUDA if this machine has it, else the CPU.
            workers: as for ``evaluation``.

        Returns:
            The columns of ``vqlab.training.evaluation.pixel_metrics``; they are stored in the folder of the Run under
            the fingerprint of the images.

        Raises:
            InputError: if training has not finished, the Run is not that of a VQ-VAE or a VAE, or the images cannot
                be read.
        """
        self.require_kind("vqvae", "vae")
        changes = {"source": source, "validation": 0, "test_limit": None, "random_crop": False}
        data = load_data(self.config.data.model_copy(update=changes))
        workers = workers or Workers(device=find_device(device))
        path, device = self.folder / f"evaluation_{data.fingerprint}.json", workers.device
        if workers.broadcast(path.is_file()):
            return read_measures(path)
        columns = pixel_metrics(self.model(device), data, self.config, device, workers=workers)
        if workers.is_main:
            with skip_if_read_only(path):
                write_json(path, columns)
        return columns

    def __repr__(self) -> str:
        return describe_run(self)

    def _repr_html_(self) -> str:
        return run_html(self)


def finished_run(root: Path, config: Config) -> Run | None:
    """Find the finished Run of a Config.

    Args:
        root: the folder of all Runs.
        config: the Config.

    Returns:
        The Run; None if there is none, or training has not finished.

    Raises:
        WorkError: if a file of the Run is damaged.
    """
    folder = root / find_run(root, config).id
    run = Run.open(folder) if folder.is_dir() else None
    return run if run is not None and run.finished else None


def is_finished(root: Path, config: Config) -> bool:
    """Find out whether a Config needs no training.

    Args:
        root: the folder of all Runs.
        config: the Config.

    Returns:
        Whether its Run is finished; False for a damaged one, which its training repairs or refuses.
    """
    with suppress(InputError):
        return finished_run(root, config) is not None
    return False


def _is_complete(stored: dict[str, Any], kind: str, *, inception: bool, retry: bool) -> bool:
    """Whether ``stored`` has every distance that is requested; with ``retry``, absent values are measured again."""
    prefixes = {"vqvae": ("r",), "vae": ("r", "sample_")}.get(kind, ("sample_",))
    if not all({f"{prefix}fd_classifier", f"{prefix}fid"} <= set(stored) for prefix in prefixes):
        return False
    reasons = [stored.get(f"{prefix}fid_reason") for prefix in prefixes if stored[f"{prefix}fid"] is None]
    return not inception or not any(retry or reason == NOT_REQUESTED for reason in reasons)
