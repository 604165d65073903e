"""Base class of the explorers: state, message line, live view in JupyterLab and static figure elsewhere."""

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
from vqlab.frontend import shared_styles

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

_HEADLESS_VARIABLE = "VQLAB_HEADLESS"


def headless() -> bool:
    """Decide whether explorers show a static figure instead of a live view.

    A kernel cannot detect whether a browser is connected to it. A program that executes notebooks without a browser
    therefore sets the environment variable ``VQLAB_HEADLESS=1``, as ``vqlab run`` does. ``VQLAB_HEADLESS=0`` forces
    live views.

    Returns:
        Whether ``VQLAB_HEADLESS`` is set to anything but ``0`` or the empty string; if it is not set, whether the
        code runs outside a Jupyter kernel.
    """
    value = os.environ.get(_HEADLESS_VARIABLE)
    if value is not None:
        return value not in ("", "0")
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is None


class Explorer(traitlets.HasTraits):
    """Base class of the interactive views of a Run.

    The last expression of a notebook cell displays an explorer: as a live view (``view``) in JupyterLab, and as a
    PNG of ``figure()`` where no browser is connected (see ``headless``), so that an executed notebook shows the same
    content.

    All settings are in ``state``. Assign a dict with some of its keys to change these keys and keep the others:
    ``explorer.state = {"index": 3}``. The assignment raises InputError if a key is unknown or a value is not
    allowed; the state then stays as it was. A change from code moves the controls of the view, and a change of a
    control sets the state.

    Attributes:
        state: the settings as a dict of JSON values; each subclass documents its keys.
        message: one line below the controls: the last error or notice, empty after a valid change.
    """

    state = traitlets.Dict(help="the settings, as JSON values")
    message = traitlets.Unicode(help="the last error or notice, one line")

    def figure(self) -> Figure:
        """Draw the present state as a static figure; it is shown where no browser is connected.

        Returns:
            A matplotlib figure.
        """
        raise NotImplementedError

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        """Return the whole state after ``changed`` keys were set; raise InputError for a value out of range."""
        raise NotImplementedError

    def _build(self) -> ipywidgets.Widget:
        """Create the live view; called once."""
        raise NotImplementedError

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Update the live view from the state ``old`` to the state ``new``."""
        raise NotImplementedError

    def update_state(self, **values: Any) -> None:
        """Set keys of the state as a control of the view does: an error becomes the message and is not raised.

        Args:
            **values: new values of some keys of the state.
        """
        self.run_action(lambda: self.set_trait("state", values))

    def run_action(self, action: Callable[[], None]) -> None:
        """Run an action of the view: an error of any type becomes the message, in one line, and is not raised.

        Args:
            action: a function without arguments.
        """
        self.message = ""
        self._report_errors(action)

    def _report_errors(self, action: Callable[[], None]) -> None:
        try:
            action()
        except InputError as error:
            self.message = _one_line(str(error))
        except Exception as error:  # the traceback of a callback is not visible in the browser
            self.message = _one_line(f"{type(error).__name__}: {error}")

    @traitlets.validate("state")
    def _check_state(self, proposal: dict[str, Any]) -> dict[str, Any]:
        values = proposal["value"]
        unknown = set(values) - set(self.state) if self.state else set()
        if unknown:
            raise InputError(f"state: unknown key {', '.join(sorted(unknown))}; allowed: {', '.join(self.state)}")
        changed = {key for key, value in values.items() if not self.state or value != self.state[key]}
        validated = self._validated({**self.state, **values}, changed)
        # Cleared here and not in the observer: a thread that the new state starts may have set its error by then.
        self.message = ""
        return validated

    @traitlets.observe("state")
    def _show_state(self, change: dict[str, Any]) -> None:
        if "view" in self.__dict__:
            self._report_errors(lambda: self._refresh(change["old"], change["new"]))

    @cached_property
    def view(self) -> ipywidgets.Widget:
        """The live view with its message line, created once; all displayed copies share one state."""
        import ipywidgets

        from vqlab.widgets.reopened_page import show_again_when_reopened

        show_again_when_reopened()
        line = ipywidgets.HTML()

        def show_message(message: str) -> None:
            line.value = _message_html(message)
            line.layout.display = None if message else "none"

        show_message(self.message)
        self.observe(lambda change: show_message(change["new"]), "message")
        style = ipywidgets.HTML(f"<style>{shared_styles()}</style>", layout={"display": "none"})
        box = ipywidgets.VBox([style, self._build(), line])
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


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _message_html(message: str) -> str:
    return f'<div class="vqlab-message" role="alert">{html.escape(message)}</div>'
