"""Offline reports: executed notebooks as web pages with an index, their findings, and one page of one Run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqlab.report.finding import Finding as Finding
    from vqlab.report.lab_server import server_options as server_options
    from vqlab.report.layer_findings import identities_finding as identities_finding
    from vqlab.report.layer_findings import own_rule_finding as own_rule_finding
    from vqlab.report.layer_findings import rotations_finding as rotations_finding
    from vqlab.report.notebooks import notebooks_folder as notebooks_folder
    from vqlab.report.notebooks import run_notebooks as run_notebooks
    from vqlab.report.notebooks import working_copy as working_copy
    from vqlab.report.run_findings import angles_finding as angles_finding
    from vqlab.report.run_findings import images_finding as images_finding
    from vqlab.report.run_findings import published_finding as published_finding
    from vqlab.report.run_findings import reconstruction_finding as reconstruction_finding
    from vqlab.report.run_findings import sampling_finding as sampling_finding
    from vqlab.report.run_findings import usage_finding as usage_finding
    from vqlab.report.run_findings import wrong_codes_finding as wrong_codes_finding
    from vqlab.report.run_names import name_runs as name_runs
    from vqlab.report.run_page import write_run_page as write_run_page
    from vqlab.report.study_findings import generation_finding as generation_finding
    from vqlab.report.study_findings import leaderboard_finding as leaderboard_finding
    from vqlab.report.study_findings import perceptual_finding as perceptual_finding
    from vqlab.report.study_findings import scaling_finding as scaling_finding
    from vqlab.report.study_findings import transports_finding as transports_finding
    from vqlab.report.study_findings import tuning_finding as tuning_finding

_NAMES_OF = {
    "finding": ("Finding",),
    "lab_server": ("server_options",),
    "layer_findings": ("identities_finding", "own_rule_finding", "rotations_finding"),
    "notebooks": ("notebooks_folder", "run_notebooks", "working_copy"),
    "run_findings": (
        "angles_finding", "images_finding", "published_finding", "reconstruction_finding", "sampling_finding",
        "usage_finding", "wrong_codes_finding",
    ),
    "run_names": ("name_runs",),
    "run_page": ("write_run_page",),
    "study_findings": (
        "generation_finding", "leaderboard_finding", "perceptual_finding", "scaling_finding", "transports_finding",
        "tuning_finding",
    ),
}  # fmt: skip
_MODULE_OF = {name: f"vqlab.report.{module}" for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: only the findings need torch, which takes seconds to import."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vqlab.report' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
