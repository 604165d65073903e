"""Config in, Run out: the loop, the run folder, checkpoints, logs."""

from vqlab.training.loop import train
from vqlab.training.run import Run

__all__ = ["Run", "train"]
