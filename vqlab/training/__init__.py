"""Training: a Config becomes a Run, a folder with logs, weights, evaluation and samples."""

from vqlab.training.codes import load_code_grids
from vqlab.training.device import find_device
from vqlab.training.loop import train
from vqlab.training.run import Run
from vqlab.training.sampling import open_prior

__all__ = ["Run", "find_device", "load_code_grids", "open_prior", "train"]
