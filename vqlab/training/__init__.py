"""Config in, Run out: the loop, recipes, the run folder, checkpoints, logs, evaluation and sampling."""

from vqlab.training.codes import code_grids
from vqlab.training.device import find_device
from vqlab.training.loop import train
from vqlab.training.run import Run
from vqlab.training.sampling import open_prior

__all__ = ["Run", "code_grids", "find_device", "open_prior", "train"]
