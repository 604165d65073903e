"""Offline reports: executed notebooks as web pages with an index, and one page of one Run."""

from vqlab.report.notebooks import notebooks_folder, run_notebooks, working_copy
from vqlab.report.run_page import write_run_page

__all__ = ["notebooks_folder", "run_notebooks", "working_copy", "write_run_page"]
