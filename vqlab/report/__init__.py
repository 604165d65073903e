"""Offline reports: executed notebooks as web pages with an index, their findings, and one page of one Run."""

from vqlab.report.finding import Finding
from vqlab.report.layer_findings import identities_finding, rotations_finding
from vqlab.report.notebooks import notebooks_folder, run_notebooks, working_copy
from vqlab.report.run_findings import (
    angles_finding,
    images_finding,
    published_finding,
    reconstruction_finding,
    sampling_finding,
    usage_finding,
    wrong_codes_finding,
)
from vqlab.report.run_page import write_run_page
from vqlab.report.study_findings import (
    generation_finding,
    perceptual_finding,
    scaling_finding,
    transports_finding,
    tuning_finding,
)

__all__ = [
    "Finding",
    "angles_finding",
    "generation_finding",
    "identities_finding",
    "images_finding",
    "notebooks_folder",
    "perceptual_finding",
    "published_finding",
    "reconstruction_finding",
    "rotations_finding",
    "run_notebooks",
    "sampling_finding",
    "scaling_finding",
    "transports_finding",
    "tuning_finding",
    "usage_finding",
    "working_copy",
    "write_run_page",
    "wrong_codes_finding",
]
