"""Base class of the live views: controls and the state of their explorer follow each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import ipywidgets


class ExplorerState(Protocol):
    """Members of an explorer that every view uses.

    A view knows its explorer by such a protocol and not by its class, so the two files do not import each other.

    Attributes:
        state: the settings, as a dict of JSON values.
        message: the line below the controls.
    """

    state: Any
    message: Any

    def update_state(self, **values: Any) -> None:
        """Set keys of the state; an error becomes the message."""

    def run_action(self, action: Callable[[], None]) -> None:
        """Run an action; an error becomes the message."""


class View:
    """Live view of an explorer: passes input to the explorer and shows the explorer's state.

    Args:
        explorer: the explorer to show; a subclass states the members that it uses as a protocol.

    Attributes:
        explorer: the explorer.
        box: the widget that holds the whole view; a subclass creates it.
    """

    box: ipywidgets.Widget

    def __init__(self, explorer: ExplorerState) -> None:
        self.explorer = explorer
        self._bound: list[tuple[ipywidgets.Widget, str]] = []
        self._updating = False

    def bind(self, control: ipywidgets.Widget, key: str) -> None:
        """Keep the value of a control and a key of the state equal.

        A value that the explorer refuses is replaced in the control by the value in the state.

        Args:
            control: a widget with a ``value``.
            key: key of the state.
        """
        self._bound.append((control, key))
        control.observe(lambda change: self._on_control_change(key, change["new"]), "value")

    def on_click(self, button: ipywidgets.Button, action: Callable[[], None]) -> None:
        """Run an action at each click of a button; an error becomes the message.

        Args:
            button: the button.
            action: a function without arguments.
        """
        button.on_click(lambda _: self.explorer.run_action(action))

    def update(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Redraw what differs between two states, then set the controls.

        Args:
            old: the state that the view shows now; an empty dict redraws everything.
            new: the state to show.
        """
        self._updating = True
        try:
            self.draw(new, {key for key in new if key not in old or new[key] != old[key]})
            self._set_controls(new)
        finally:
            self._updating = False

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw a state and set the ranges of the controls, but not their values.

        Args:
            state: the state to draw.
            changed: the keys that changed since the last call; all keys at the first one.
        """
        raise NotImplementedError

    def show_places(self, control: ipywidgets.Dropdown, names: Sequence[str], label: str) -> None:
        """Let a control select a place of the codes; it is hidden where a vector has one code.

        Args:
            control: the control of the key ``place``.
            names: names of the places; empty for one code.
            label: what they name.
        """
        control.options, control.description = list(names), label
        control.layout.display = None if names else "none"

    def _on_control_change(self, key: str, value: Any) -> None:
        if self._updating:
            return
        self.explorer.update_state(**{key: value})
        if self.explorer.state[key] != value:
            self._updating = True
            try:
                self._set_controls(self.explorer.state)
            finally:
                self._updating = False

    def _set_controls(self, state: dict[str, Any]) -> None:
        for control, key in self._bound:
            # A slider has a number also where its key does not apply, and then it is hidden.
            if state[key] is not None or control.layout.display != "none":
                control.value = state[key]
