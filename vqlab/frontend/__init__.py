"""Modules for the browser that the explorers in JupyterLab and the page of a Run share."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def shared_script(*names: str) -> str:
    """Join shared JavaScript files, which define functions and import nothing.

    Args:
        *names: names of the files without ``.js``, those that others use first.

    Returns:
        One script.

    Example:
        >>> "function codeLink(" in shared_script("code_link")
        True
    """
    return "\n".join((_FOLDER / f"{name}.js").read_text() for name in names)


def shared_styles() -> str:
    """Read the style sheet of the explorers and of the page of a Run.

    Returns:
        The rules; all apply inside an element of the class ``vqlab``.
    """
    return (_FOLDER / "vqlab.css").read_text()
