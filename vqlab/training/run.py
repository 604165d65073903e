"""A Run: a folder that holds what was asked, what was seen and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
    from torch import Tensor

    from vqlab.data import ImageData

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
        path = self.require("vqvae").folder / "codebook.npz"
        if not path.is_file():
            raise InputError(f"run {self.folder}: no codebook.npz yet; finish an epoch with `vqlab train`")
        with np.load(path, allow_pickle=False) as stored:
            return stored["usage"]

    def usage_windows(self) -> np.ndarray:
        """Tokens per code in equal windows of training, int64 (windows, K); a Run of an earlier version has epochs."""
        usage = self.usage()
        with np.load(self.folder / "codebook.npz", allow_pickle=False) as stored:
            return stored.get("windows", usage)

    def last_epoch(self) -> dict[str, Any]:
        """The test-set numbers that the loop logged after the last epoch; raises InputError where there is none."""
        rows = [row for row in read_rows(self.folder / "metrics.jsonl") if row["kind"] == "epoch"]
        if not rows:
            raise InputError(f"run {self.folder}: has no logged epoch yet; `vqlab train` goes on with it")
        return rows[-1]

    def require(self, *kinds: str) -> Run:
        """The Run itself; raises InputError unless it holds one of ``kinds`` (Config.kind)."""
        if self.config.kind not in kinds:
            wanted = " or ".join(kinds)
            raise InputError(f"run {self.folder}: holds a {self.config.kind}; give the Run of a {wanted}")
        return self

    def model(self, device: str = "cpu") -> Any:
        """The trained model of the Config's kind (VQVAE, VAE, GAN or a prior), in eval mode.

        Raises InputError when unfinished or damaged.
        """
        from vqlab.models import build_model

        if not self.finished:
            raise InputError(f"run {self.folder}: training has not finished; `vqlab train` resumes it")
        model = build_model(self.config, int(self.provenance.get("classes", 0)))
        model.load_state_dict(read_tensors(self.folder / "model.safetensors")[0])
        return model.to(device).eval()

    def codec(self) -> Run:
        """The Run of the VQ-VAE that a prior's Run stands on, in the same place; the Run itself for other kinds."""
        codec = self.config.codec()
        return self if codec == self.config else Run.open(self.folder.parent / codec.id)

    def samples(self, count: int, *, seed: int = 0, device: str = "cpu", **how: Any) -> Iterator[Tensor]:
        """Images in [0, 1], (count, 3, H, W) in batches; how: see vqlab.training.sampling.samples."""
        from vqlab.training.sampling import samples

        return samples(self, count, seed=seed, device=device, **how)

    def data(self) -> ImageData:
        """The images this Run was trained and is tested on."""
        from vqlab.data import load_data

        return load_data(self.config.data)

    def evaluation(self, device: str | None = None, *, inception: bool | None = None) -> dict[str, Any]:
        """Test-set metrics (see vqlab.metrics.evaluate), measured once and kept in evaluation.json.

        inception: FID and KID too; where not said, on CUDA only, and not again where they could not be had before.
        What a file of an older vqlab lacks is measured anew, as long as the images are still there.
        """
        from vqlab.metrics import evaluate

        path, device = self.folder / "evaluation.json", find_device(device)
        asked = device.startswith("cuda") if inception is None else inception
        known = read_json(path) if path.is_file() else {}
        if _complete(known, self.config.kind, inception=asked, again=inception is True):
            return known
        try:
            measured = evaluate(self, device, inception=asked)
        except InputError:
            if not known:
                raise
            return known
        write_json(path, measured)
        return measured

    def __repr__(self) -> str:
        return f"Run({self.config.id}, {'finished' if self.finished else 'unfinished'}, {self.folder})"


def _complete(known: dict[str, Any], kind: str, *, inception: bool, again: bool) -> bool:
    """Whether ``known`` has the distances of the kind; again: whether to try what could not be had before."""
    from vqlab.metrics.distances import NOT_ASKED

    prefixes = {"vqvae": ("r",), "vae": ("r", "sample_")}.get(kind, ("sample_",))
    if not all(f"{prefix}fd_classifier" in known for prefix in prefixes):
        return False
    reasons = [known[f"{prefix}fid_reason"] for prefix in prefixes if known[f"{prefix}fid"] is None]
    return not inception or not any(again or reason == NOT_ASKED for reason in reasons)
