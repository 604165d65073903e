"""Config in, Run out: the loop, the run folder, checkpoints, logs, samples."""

from vqlab.training.codes import code_grids
from vqlab.training.loop import train
from vqlab.training.run import Run
from vqlab.training.sampling import open_prior

__all__ = ["Run", "code_grids", "open_prior", "train"]
