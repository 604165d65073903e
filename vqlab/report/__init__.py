"""What is left for others: the executed notebooks as offline pages, an index, and a page of one Run to mail."""

from vqlab.report.notebooks import notebooks_folder, run_notebooks, working_copy
from vqlab.report.run_page import write_explorer

__all__ = ["notebooks_folder", "run_notebooks", "working_copy", "write_explorer"]
