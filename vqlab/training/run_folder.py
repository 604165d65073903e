"""The folder of a Run: its Config, provenance, logs, codebook usage, weights and data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vqlab.config import Config
from vqlab.data import ImageData, load_data
from vqlab.errors import InputError
from vqlab.models import build_model
from vqlab.training.files import read_json, read_tensors, write_json
from vqlab.training.logs import read_rows

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


class RunFolder:
    """What the files of one Run hold; every method reads them when called, and nothing is unpickled.

    ``vqlab.Run`` adds evaluation and sampling. The training loop and the modules below ``Run`` take this class.

    Args:
        folder: the folder of the Run.
        config: the Config stored in its ``config.json``.

    Attributes:
        folder: as given.
        config: as given.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an existing Run.

        Args:
            folder: the folder that ``train`` made or ``vqlab train`` printed.

        Returns:
            The Run, finished or not.

        Raises:
            InputError: the folder has no readable ``config.json``, or a newer vqlab wrote it.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise InputError(f"run {folder}: has no config.json; give the folder that `vqlab train` printed")
        try:
            stored = json.loads(path.read_text())
            version, values = stored["format"], stored["config"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"run {folder}: config.json is not that of a Run; train the Config again") from None
        if version > FORMAT:
            raise InputError(
                f"run {folder}: has format {version} of a newer vqlab, this one reads up to {FORMAT}; upgrade vqlab"
            )
        return cls(folder, Config.parse(values))

    @classmethod
    def create(cls, folder: Path, config: Config) -> Self:
        """Open the Run of ``config`` in ``folder``, or create it.

        Args:
            folder: an empty or missing folder, or that of a Run of the same Config.
            config: what the Run is to compute.

        Returns:
            The Run.

        Raises:
            InputError: the folder holds a Run of another Config.
        """
        if (folder / "config.json").exists():
            run = cls.open(folder)
            if run.config != config:
                raise InputError(f"run {folder}: holds config {run.config.id}, not {config.id}; choose another folder")
            return run
        folder.mkdir(parents=True, exist_ok=True)
        stored = {"format": FORMAT, "id": config.id, "config": config.model_dump(mode="json")}
        write_json(folder / "config.json", stored)
        return cls(folder, config)

    @property
    def finished(self) -> bool:
        """Whether training reached its last step."""
        return (self.folder / "model.safetensors").is_file() and bool(self.provenance.get("finished"))

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, git state, device, seed, data fingerprint, wall seconds; empty before the first checkpoint."""
        path = self.folder / "provenance.json"
        return read_json(path) if path.is_file() else {}

    def metrics(self) -> pd.DataFrame:
        """Read ``metrics.jsonl``.

        Returns:
            One row for each logged step (kind ``train``), epoch (kind ``epoch``: test-set metrics) and restart of
            codes (kind ``restart``), with its ``step`` and ``epoch``.
        """
        import pandas as pd

        return pd.DataFrame(read_rows(self.folder / "metrics.jsonl"))

    def angles(self) -> pd.DataFrame:
        """Read ``angles.jsonl``.

        Returns:
            One row for each logged step: histograms over its tokens, with the bins of
            ``vqlab.training.gradients.HISTOGRAM_EDGES``.
        """
        import pandas as pd

        return pd.DataFrame(read_rows(self.folder / "angles.jsonl"))

    def usage(self) -> np.ndarray:
        """Read how often each code was used in each epoch.

        Returns:
            Tokens per code, int64 (epochs, K).

        Raises:
            InputError: the Run is not that of a VQ-VAE, or has not finished an epoch.
        """
        return self._codebook_file()["usage"]

    def usage_windows(self) -> np.ndarray:
        """Read how often each code was used in equal windows of training.

        Returns:
            Tokens per code, int64 (windows, K). Runs that logged epochs only have one window for each.

        Raises:
            InputError: as ``usage``.
        """
        stored = self._codebook_file()
        return stored.get("windows", stored["usage"])

    def _codebook_file(self) -> dict[str, np.ndarray]:
        path = self.require("vqvae").folder / "codebook.npz"
        if not path.is_file():
            raise InputError(f"run {self.folder}: has no codebook.npz; finish an epoch with `vqlab train`")
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)

    def last_epoch(self) -> dict[str, Any]:
        """Read the test-set metrics that the training loop logged after the last epoch.

        Returns:
            The last row of kind ``epoch``.

        Raises:
            InputError: no epoch has finished.
        """
        rows = [row for row in read_rows(self.folder / "metrics.jsonl") if row["kind"] == "epoch"]
        if not rows:
            raise InputError(f"run {self.folder}: has no finished epoch; resume it with `vqlab train`")
        return rows[-1]

    def require(self, *kinds: str) -> Self:
        """Check what the Run holds.

        Args:
            *kinds: allowed values of ``Config.kind``.

        Returns:
            The Run itself.

        Raises:
            InputError: the Run is of another kind.
        """
        if self.config.kind not in kinds:
            allowed = " or ".join(kinds)
            raise InputError(f"run {self.folder}: holds a {self.config.kind}; give the Run of a {allowed}")
        return self

    def model(self, device: str = "cpu") -> Any:
        """Load the trained model.

        Args:
            device: where to put it.

        Returns:
            A VQVAE, VAE, GAN or prior, by the Config's kind, in eval mode.

        Raises:
            InputError: training has not finished, or the weights are damaged.
        """
        if not self.finished:
            raise InputError(f"run {self.folder}: training has not finished; resume it with `vqlab train`")
        model = build_model(self.config, int(self.provenance.get("classes", 0)))
        model.load_state_dict(read_tensors(self.folder / "model.safetensors")[0])
        return model.to(device).eval()

    def codec(self) -> Self:
        """Open the Run of the VQ-VAE under a prior, which is in the same place.

        Returns:
            That Run; the Run itself for other kinds.

        Raises:
            InputError: the VQ-VAE's Run is missing.
        """
        codec = self.config.codec()
        return self if codec == self.config else type(self).open(self.folder.parent / codec.id)

    def data(self) -> ImageData:
        """Load the images that the Run was trained and is tested on.

        Returns:
            Training and test images.

        Raises:
            InputError: the images cannot be read.
        """
        return load_data(self.config.data)
