"""What every explorer has: a state, a line for messages, a live view, and a static twin where there is no page."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import traitlets

from vqlab.errors import InputError

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

HEADLESS = "VQLAB_HEADLESS"


def headless() -> bool:
    """Whether nobody is there to touch a widget: outside a Jupyter kernel, and where VQLAB_HEADLESS is set.

    A kernel cannot see whether a page listens to it, so whoever starts it without one says so, as ``vqlab run``
    does; VQLAB_HEADLESS=0 says that somebody is there.
    """
    said = os.environ.get(HEADLESS)
    if said is not None:
        return said not in ("", "0")
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is None


class Explorer(traitlets.HasTraits):
    """A view of Runs to touch. In JupyterLab it is shown live; headless, ``figure()`` is left in the notebook.

    state: all that a person can choose, as JSON values. Assign a part of it (``widget.state = {"index": 3}``) to
    move the widget from code; a value that cannot be used raises InputError, and the state stays.
    message: the line below the controls; what went wrong in the page is told there.
    """

    state = traitlets.Dict(help="all that can be chosen, as JSON values")
    message = traitlets.Unicode(help="what the widget has to say, one line")

    def figure(self) -> Figure:
        """The static twin: what the widget shows in its present state, as a printed figure."""
        raise NotImplementedError

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        """The whole state after ``changed`` keys were set; raises InputError for a value out of range."""
        raise NotImplementedError

    def _build(self) -> ipywidgets.Widget:
        """The live view, made once."""
        raise NotImplementedError

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Bring the live view from the state ``old`` to the state ``new``."""
        raise NotImplementedError

    def change(self, **parts: Any) -> None:
        """Set parts of the state as the page does: what goes wrong becomes the message, nothing is raised."""
        self.attempt(lambda: self.set_trait("state", parts))

    def attempt(self, action: Callable[[], None]) -> None:
        """Run ``action``; its error, of whatever kind, becomes the message, in one line."""
        self.message = ""
        self._report_errors(action)

    def _report_errors(self, action: Callable[[], None]) -> None:
        try:
            action()
        except InputError as error:
            self.message = _one_line(str(error))
        except Exception as error:  # in a callback of the page nobody would see the traceback
            self.message = _one_line(f"{type(error).__name__}: {error}")

    @traitlets.validate("state")
    def _check_state(self, proposal: dict[str, Any]) -> dict[str, Any]:
        given = proposal["value"]
        unknown = set(given) - set(self.state) if self.state else set()
        if unknown:
            raise InputError(f"state: unknown {', '.join(sorted(unknown))}; use {', '.join(self.state)}")
        changed = {key for key, value in given.items() if not self.state or value != self.state[key]}
        settled = self._validated({**self.state, **given}, changed)
        # Here, not when the view follows: by then a thread that the new state started may have told its failure.
        self.message = ""
        return settled

    @traitlets.observe("state")
    def _show_state(self, change: dict[str, Any]) -> None:
        if "view" in self.__dict__:
            self._report_errors(lambda: self._refresh(change["old"], change["new"]))

    @cached_property
    def view(self) -> ipywidgets.Widget:
        """The live view with its message line; the same one each time, so that all its copies move together."""
        import ipywidgets

        line = ipywidgets.HTML(_alert(self.message))
        self.observe(lambda change: setattr(line, "value", _alert(change["new"])), "message")
        box = ipywidgets.VBox([ipywidgets.HTML(f"<style>{_STYLE}</style>"), self._build(), line])
        box.add_class("vqlab")
        self._refresh({}, self.state)
        return box

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        if not headless():
            return self.view._repr_mimebundle_(**kwargs)
        file = io.BytesIO()
        self.figure().savefig(file, format="png", bbox_inches="tight")
        return {"text/plain": repr(self), "image/png": base64.b64encode(file.getvalue()).decode()}

    def __repr__(self) -> str:
        shown = {key: value for key, value in self.state.items() if isinstance(value, str | int | float)}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


def one_of(name: str, value: Any, choices: Any) -> None:
    """Raise InputError unless ``value`` is among ``choices``."""
    if value not in choices:
        raise InputError(f"{name}={value!r}: must be one of {', '.join(map(str, choices))}")


def in_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise InputError unless ``value`` is a number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name}={value!r}: must be a number from {low:g} to {high:g}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _alert(message: str) -> str:
    return f'<div class="vqlab-message" role="alert">{html.escape(message)}</div>'


# The page's own colours: so the same rules serve the light and the dark theme.
_STYLE = """
.vqlab{color:var(--jp-ui-font-color1)}
.vqlab-message{min-height:1.4em;border-left:3px solid #d55e00;padding-left:.5em}
.vqlab-message:empty{border-color:transparent}
.vqlab .vqlab-whole{flex:0 0 auto}
.vqlab img.vqlab-picture{image-rendering:pixelated;object-fit:contain}
.vqlab .js-plotly-plot .main-svg{background:transparent !important}
.vqlab .js-plotly-plot text{fill:var(--jp-ui-font-color1) !important}
.vqlab .js-plotly-plot .hoverlayer text{fill:#fff !important}
.vqlab .js-plotly-plot .gridlayer path,.vqlab .js-plotly-plot .zl{stroke:var(--jp-border-color2) !important}
"""
