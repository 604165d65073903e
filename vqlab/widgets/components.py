"""Widgets around the shared front-end modules: the link between codes, and views of codes that it connects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
import traitlets

from vqlab.frontend import shared_script

_STATIC = Path(__file__).parent / "static"


def widget_script(shared: Sequence[str], *own: str) -> str:
    """Join the front-end modules of a widget to the one module that anywidget loads.

    Args:
        shared: names of shared modules in ``vqlab/frontend``, without ``.js``, those that others use first.
        *own: names of modules in ``vqlab/widgets/static``, in the same way.

    Returns:
        One script; the last file exports the widget.
    """
    return "\n".join([shared_script(*shared), *((_STATIC / f"{name}.js").read_text() for name in own)])


def _linked_script(function: str, *shared: str) -> str:
    script = widget_script(("code_link", *shared), "kernel", "linked_view")
    return f"{script}\nexport default {{ render: linkedView({function}) }};\n"


class CodeLink(anywidget.AnyWidget):
    """The lit and the selected code of one explorer.

    Views of codes that have the same ``name`` as their ``link`` light and select codes together, in the browser and
    without the kernel. In one page, the explorers of one codebook are linked as well. The widget is not displayed.

    Attributes:
        name: a name that no other link has.
        codebook: the Run that has the codebook; explorers of the same one are linked.
        code: the selected code in the kernel; −1 if the explorer selects none.
        answered: number of the last choice in the browser that ``code`` takes into account.
    """

    _esm = widget_script(("code_link",), "kernel", "code_link_widget")
    name = traitlets.Unicode(help="a name that no other link has").tag(sync=True)
    codebook = traitlets.Unicode(help="the Run that has the codebook").tag(sync=True)
    code = traitlets.Int(-1, help="the selected code in the kernel").tag(sync=True)
    answered = traitlets.Int(0, help="number of the last choice in the browser").tag(sync=True)

    def __init__(self) -> None:
        super().__init__(name=uuid4().hex)

    def on_code_chosen(self, callback: Callable[[int], None]) -> None:
        """Register a function that is called when a code is chosen in the browser.

        Args:
            callback: called with the code; it sets ``code`` if the explorer accepts the choice.
        """

        def on_message(_: Any, chosen: dict[str, Any], __: Any) -> None:
            try:
                callback(chosen["code"])
            finally:
                self.answered = chosen["number"]

        self.on_msg(on_message)


class UsageBars(anywidget.AnyWidget):
    """Histogram of the usage of codes, most used first; bars are chosen by click or keyboard.

    Attributes:
        link: name of the CodeLink of the explorer.
        content: ``tokens``, the tokens of each code, by code; and ``title``.
    """

    _esm = _linked_script("createUsageBars", "usage_bars")
    link = traitlets.Unicode(help="name of the CodeLink").tag(sync=True)
    content: traitlets.Dict[str, Any] = traitlets.Dict(help="tokens of each code, and a title").tag(sync=True)


class CodeCaption(anywidget.AnyWidget):
    """A caption that names codes.

    Attributes:
        link: name of the CodeLink of the explorer.
        content: ``parts``, texts, and a number for each code that is named.
    """

    _esm = _linked_script("createCodeCaption", "code_caption")
    link = traitlets.Unicode(help="name of the CodeLink").tag(sync=True)
    content: traitlets.Dict[str, Any] = traitlets.Dict({"parts": []}, help="texts and codes").tag(sync=True)


class CodePatches(anywidget.AnyWidget):
    """The decoded patch of a code and the image patches nearest to it, with captions.

    Attributes:
        link: name of the CodeLink of the explorer.
        content: ``code``; ``patch``, data URL of the decoded patch; ``patches``, data URL of ``count`` image patches
            beside each other; ``caption`` and ``patchesCaption``, parts as CodeCaption has them.
    """

    _esm = _linked_script("createCodePatches", "code_caption", "code_patches")
    link = traitlets.Unicode(help="name of the CodeLink").tag(sync=True)
    content: traitlets.Dict[str, Any] = traitlets.Dict(help="code, pictures and captions").tag(sync=True)
