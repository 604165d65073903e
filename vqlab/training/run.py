"""A Run: a folder that holds what was asked, what was seen and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.training.device import find_device
from vqlab.training.files import read_json, read_tensors, write_json
from vqlab.training.logs import read_rows

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.data import ImageData
    from vqlab.models import VQVAE

FORMAT = 1


class Run:
    """A run folder, opened. Everything is read from files when asked for; nothing is unpickled."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The Run in ``folder``; raises InputError if there is none or a newer vqlab wrote it."""
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise InputError(f"run {folder}: no config.json there; give the folder that `vqlab train` printed")
        try:
            stored = json.loads(path.read_text())
            version, values = stored["format"], stored["config"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"run {folder}: config.json is not readable as a Run's; train it again") from None
        if version > FORMAT:
            raise InputError(
                f"run {folder}: written in format {version} by a newer vqlab, this one reads {FORMAT}; upgrade vqlab"
            )
        return cls(folder, Config.parse(values))

    @classmethod
    def create(cls, folder: Path, config: Config) -> Run:
        """Open ``folder`` for ``config``, or start it; raises InputError if another Config lives there."""
        if (folder / "config.json").exists():
            run = cls.open(folder)
            if run.config != config:
                raise InputError(f"run {folder}: holds config {run.config.id}, not {config.id}; choose another folder")
            return run
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            folder / "config.json", {"format": FORMAT, "id": config.id, "config": config.model_dump(mode="json")}
        )
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
        """Rows of metrics.jsonl: kind ``train`` (one per log step) and ``epoch`` (test set after each epoch)."""
        import pandas as pd

        return pd.DataFrame(read_rows(self.folder / "metrics.jsonl"))

    def angles(self) -> pd.DataFrame:
        """Histograms over a step's tokens, one row per log step; edges: vqlab.training.gradients.EDGES."""
        import pandas as pd

        return pd.DataFrame(read_rows(self.folder / "angles.jsonl"))

    def usage(self) -> np.ndarray:
        """Tokens per code in each epoch of training, int64 (epochs, K)."""
        path = self.folder / "codebook.npz"
        if not path.is_file():
            raise InputError(f"run {self.folder}: no codebook.npz yet; finish an epoch with `vqlab train`")
        with np.load(path, allow_pickle=False) as stored:
            return stored["usage"]

    def usage_windows(self) -> np.ndarray:
        """Tokens per code in equal windows of training, int64 (windows, K); a Run of an earlier version has epochs."""
        usage = self.usage()
        with np.load(self.folder / "codebook.npz", allow_pickle=False) as stored:
            return stored.get("windows", usage)

    def model(self, device: str = "cpu") -> VQVAE:
        """The trained model in eval mode; raises InputError when unfinished or damaged."""
        from vqlab.models import VQVAE

        if not self.finished:
            raise InputError(f"run {self.folder}: training has not finished; `vqlab train` resumes it")
        model = VQVAE(self.config.model, self.config.quantizer, self.config.seed)
        model.load_state_dict(read_tensors(self.folder / "model.safetensors")[0])
        return model.to(device).eval()

    def data(self) -> ImageData:
        """The images this Run was trained and is tested on."""
        from vqlab.data import load_data

        return load_data(self.config.data)

    def evaluation(self, device: str | None = None) -> dict[str, Any]:
        """Test-set metrics (see vqlab.metrics.evaluate), measured once and kept in evaluation.json."""
        from vqlab.metrics import evaluate

        path = self.folder / "evaluation.json"
        if not path.is_file():
            write_json(path, evaluate(self, find_device(device)))
        return read_json(path)

    def __repr__(self) -> str:
        return f"Run({self.config.id}, {'finished' if self.finished else 'unfinished'}, {self.folder})"
