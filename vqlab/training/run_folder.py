"""The folder of a Run: its Config, provenance, logs, codebook usage, weights and data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Int64

from vqlab.config import Config
from vqlab.data import ImageData, load_data
from vqlab.data.folder import source_key
from vqlab.errors import ChangedDataError, InputError, WorkError
from vqlab.files import check_format, read_json, write_json
from vqlab.models import build_model
from vqlab.training.files import differing_tensor, read_tensors
from vqlab.training.logs import read_rows
from vqlab.training.run_values import read_codebook, read_log, read_object, read_provenance

if TYPE_CHECKING:
    import pandas as pd

# Of all files of a Run, stored in config.json.
FORMAT_VERSION = 1


class RunFolder:
    """The content of a Run's folder; every method reads the files when it is called, and nothing is unpickled.

    ``vqlab.Run`` adds evaluation and sampling. The modules that ``Run`` itself uses take this class.

    Args:
        folder: the folder of the Run.
        config: the Config stored in its ``config.json``.

    Attributes:
        folder: the folder of the Run.
        config: the Config stored in its ``config.json``.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an existing Run.

        Args:
            folder: the folder that ``train`` wrote, ``root/config.id``; ``vqlab train`` prints it.

        Returns:
            The Run, finished or not.

        Raises:
            InputError: if the folder has no ``config.json``.
            WorkError: if that is damaged, or a newer version of vqlab wrote it.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise InputError(f"run {folder}: has no config.json; give the folder that `vqlab train` printed")
        try:
            stored = read_object(path)
            values = stored["config"]
        except (InputError, KeyError):
            raise WorkError(f"run {folder}: config.json is unreadable; train the Config again") from None
        check_format(f"run {folder}: config.json", stored.get("format"), FORMAT_VERSION, "train the Config again")
        try:
            return cls(folder, Config.parse(values, as_stored=True))
        except InputError as error:
            raise WorkError(
                f"run {folder}: config.json: {error}; upgrade vqlab if a newer version wrote it, else put back the file"
            ) from None

    @classmethod
    def create(cls, folder: Path, config: Config) -> Self:
        """Create the Run of a Config, or open it if it exists.

        Args:
            folder: an empty or missing folder, or the folder of a Run of the same Config.
            config: the Config of the Run.

        Returns:
            The Run.

        Raises:
            InputError: if the folder holds the Run of another Config.
            WorkError: if its ``config.json`` is damaged.
        """
        if (folder / "config.json").exists() and not _is_damaged(folder, config):
            run = cls.open(folder)
            if run.config != config.without_memory():
                raise InputError(
                    f"run {folder}: config.json holds config {run.config.id}, not {config.id}; choose another folder, "
                    "or remove config.json, which is written again"
                )
            return cls(folder, config)
        folder.mkdir(parents=True, exist_ok=True)
        stored = {
            "format": FORMAT_VERSION,
            "id": config.id,
            "config": config.without_memory().model_dump(mode="json", exclude={"data": {"memory"}}),
        }
        write_json(folder / "config.json", stored)
        return cls(folder, config)

    @property
    def finished(self) -> bool:
        """Whether training has reached its last step."""
        return (self.folder / "model.safetensors").is_file() and bool(self.provenance.get("finished"))

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, git commit, device, seed, data fingerprint, wall seconds; empty before the first checkpoint."""
        return read_provenance(self.folder / "provenance.json")

    def metrics(self) -> pd.DataFrame:
        """Read ``metrics.jsonl``.

        Returns:
            One row for each logged step (``kind`` is ``train``), each epoch (``epoch``: metrics of the test images)
            and each restart of dead codes (``restart``), with its ``step`` and ``epoch``.
        """
        import pandas as pd

        rows = read_log(self.folder / "metrics.jsonl")
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["kind", "step", "epoch"])

    def angles(self) -> pd.DataFrame:
        """Read ``angles.jsonl``.

        Returns:
            One row for each logged step of a VQ-VAE, with its ``step`` and ``epoch``: histograms over its tokens,
            lists of counts whose bin edges are ``vqlab.training.gradients.HISTOGRAM_EDGES``.
        """
        import pandas as pd

        return pd.DataFrame(read_rows(self.folder / "angles.jsonl"))

    def usage(self, place: int | None = None) -> Int64[np.ndarray, "epochs K"]:
        """Read how often each code was used in each epoch.

        Args:
            place: place of the index in vectors of several codes, from 0. Default None: vectors have one code.

        Returns:
            Number of tokens, int64 (epochs, K).

        Raises:
            InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch, or has no such place.
        """
        return self._usage("usage", place)

    def usage_windows(self, place: int | None = None) -> Int64[np.ndarray, "windows K"]:
        """Read how often each code was used in each window, an equal part of an epoch.

        Args:
            place: as for ``usage``.

        Returns:
            Number of tokens, int64 (windows, K). Runs of versions that counted epochs only have one window per epoch.

        Raises:
            InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch, or has no such place.
        """
        return self._usage("windows", place)

    def usage_windows_of_places(self) -> Int64[np.ndarray, "windows n K"]:
        """Read how often each code was used in each window, for every place of the index in a vector.

        Returns:
            Number of tokens, int64 (windows, n, K), n = 1 for vectors of one code.

        Raises:
            InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch.
        """
        places = range(self.config.quantizer.codes_per_vector)
        return np.stack([self.usage_windows(place) for place in places], axis=1)

    def _usage(self, name: str, place: int | None) -> np.ndarray:
        stored, places = self._codebook_file(), self.config.quantizer.codes_per_vector
        if place is None and places > 1:
            raise InputError(
                f"run {self.folder}: its vectors have {places} codes each; give the place of one, 0…{places - 1}, or "
                "use a run with quantizer.family=vq"
            )
        if place is not None and not 0 <= place < places:
            raise InputError(f"place={place}: must be in 0…{places - 1} for run {self.folder}")
        counts = stored.get(name, stored["usage"])
        return counts if places == 1 else counts[:, place]

    def _codebook_file(self) -> dict[str, np.ndarray]:
        path = self.require_kind("vqvae").folder / "codebook.npz"
        if not path.is_file():
            raise InputError(f"run {self.folder}: has no codebook.npz; finish an epoch with `vqlab train`")
        settings = self.config.quantizer
        return read_codebook(path, settings.num_codes, settings.codes_per_vector)

    def last_epoch_metrics(self) -> dict[str, Any]:
        """Read the metrics of the test images that the training loop logged after the last epoch.

        Returns:
            The last row of ``metrics.jsonl`` whose ``kind`` is ``epoch``.

        Raises:
            InputError: if no epoch has finished.
        """
        rows = [row for row in read_log(self.folder / "metrics.jsonl") if row["kind"] == "epoch"]
        if not rows:
            raise InputError(f"run {self.folder}: has no finished epoch; resume it with `vqlab train`")
        return rows[-1]

    def require_kind(self, *kinds: str) -> Self:
        """Check the kind of the Run.

        Args:
            *kinds: allowed values of ``Config.kind``: ``vqvae``, ``vae``, ``gan``, ``transformer``, ``diffusion``.

        Returns:
            The Run itself.

        Raises:
            InputError: if the Run is of another kind.
        """
        if self.config.kind not in kinds:
            allowed = " or ".join(kinds)
            raise InputError(f"run {self.folder}: holds a {self.config.kind}; give the Run of a {allowed}")
        return self

    def model(self, device: str = "cpu") -> Any:
        """Load the trained model.

        Args:
            device: the torch device of the model.

        Returns:
            A VQVAE, VAE, GAN, CodeTransformer or LatentDiffusion, by the Config's kind, in eval mode.

        Raises:
            InputError: if training has not finished.
            WorkError: if the weights are damaged.
        """
        if not self.finished:
            raise InputError(f"run {self.folder}: training has not finished; resume it with `vqlab train`")
        model = build_model(self.config, int(self.provenance.get("classes", 0)))
        path = self.folder / "model.safetensors"
        tensors = read_tensors(path)[0]
        if unlike := differing_tensor(model.state_dict(), tensors):
            raise WorkError(f"{path}: is not that of this Config ({unlike}); put back the file, or train again")
        model.load_state_dict(tensors)
        return model.to(device).eval()

    def codec(self) -> Self:
        """Open the Run of the VQ-VAE that encodes and decodes the images.

        Returns:
            For a prior, the Run of its VQ-VAE, which is in the same root folder; for other kinds, the Run itself.

        Raises:
            InputError: if the VQ-VAE's Run is missing.
        """
        if self.config.prior.kind == "none":
            return self
        return type(self).open(self.folder.parent / self.config.codec().id)

    def data(self) -> ImageData:
        """Load the images of the Run.

        Returns:
            Training and test images.

        Raises:
            InputError: if the images cannot be read.
            ChangedDataError: if they are not those that the Run was trained on.
        """
        data = load_data(self.config.data)
        self.compare_data(data)
        return data

    def compare_data(self, data: ImageData) -> None:
        """Compare images with those that the Run was trained on, by their fingerprints.

        Args:
            data: the images. Every image is right for a Run without a checkpoint, and for one of an early version that
                did not store the fingerprint.

        Raises:
            ChangedDataError: if they differ.
        """
        trained_on = self.provenance.get("data_fingerprint")
        if trained_on is not None and trained_on != data.fingerprint:
            raise ChangedDataError(
                f"run {self.folder}: was trained on other images (fingerprint {trained_on}) than those that are now in "
                f"data.source={self.config.data.source} ({data.fingerprint}); put them back, or train on the new ones "
                "with `vqlab train --retrain`, or give these another path, which makes another Run"
            )

    def check_data(self) -> None:
        """Find out whether the images of a folder, archive or list have changed since the training.

        They are read only if names, sizes or times of change differ from those at the training. Images that are no
        longer there are no change: what is stored in the Run can still be shown.

        Raises:
            ChangedDataError: if the images differ.
        """
        stored = self.provenance
        if "data_fingerprint" not in stored or not self.config.data.source.startswith("folder:"):
            return
        try:
            if stored.get("data_key") != source_key(self.config.data):
                self.data()
        except ChangedDataError:
            raise
        except InputError:
            return


def _is_damaged(folder: Path, config: Config) -> bool:
    """Whether ``config.json`` of the Run's own folder is no JSON, so that it can be written again."""
    try:
        read_json(folder / "config.json")
    except InputError:
        if folder.name != config.id:
            return False
        print(f"run {folder}: config.json was damaged and is written again", file=sys.stderr)
        return True
    return False
