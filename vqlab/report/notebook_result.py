"""The outcome of an executed notebook, as the index page and the terminal show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vqlab.report.finding import headline_number


@dataclass(frozen=True)
class NotebookResult:
    """Outcome of an executed notebook, for its card on the index page.

    Attributes:
        name: file name without ``.ipynb``; starts with the two digits of the notebook's number.
        title: first heading.
        seconds: execution time.
        error: the reason of a failure, as the failed cell's number, exception and message; None without a failure.
        failing_cell: source of the failed cell, or an empty string.
        picture: PNG of the first picture of the cells tagged ``headline``, or None.
        finding: ``Finding.content`` of the last finding, or None.
        pending: ``waiting`` or ``running`` before the notebook has ended, then an empty string.
    """

    name: str
    title: str
    seconds: float = 0.0
    error: str | None = None
    failing_cell: str = ""
    picture: bytes | None = None
    finding: dict[str, Any] | None = None
    pending: str = ""

    @property
    def state(self) -> str:
        """``waiting``, ``running``, ``ok`` or ``FAILED``."""
        return self.pending or ("ok" if self.error is None else "FAILED")

    @property
    def has_page(self) -> bool:
        """Whether there is a page of the notebook; one that could not be read has none."""
        return not self.pending and (self.error is None or bool(self.failing_cell))

    @property
    def headline(self) -> str:
        """First number of the finding, as "PSNR 23.6 dB"; empty without a finding."""
        return headline_number(self.finding)
