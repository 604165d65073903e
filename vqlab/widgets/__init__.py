"""Interactive views of Runs for JupyterLab; where no browser is connected each shows a static figure."""

from vqlab.widgets.base import Explorer, headless
from vqlab.widgets.codebook import CodebookExplorer
from vqlab.widgets.gradient import GradientExplorer
from vqlab.widgets.live import LiveTraining
from vqlab.widgets.plane import PlaneExplorer
from vqlab.widgets.reconstruction import ReconstructionExplorer
from vqlab.widgets.samples import SampleExplorer

__all__ = [
    "CodebookExplorer",
    "Explorer",
    "GradientExplorer",
    "LiveTraining",
    "PlaneExplorer",
    "ReconstructionExplorer",
    "SampleExplorer",
    "headless",
]
