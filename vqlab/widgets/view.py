"""What every live view does: controls that follow the state, and the state that follows the controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import ipywidgets


class ExplorerState(Protocol):
    """What a view needs of an explorer: its state, its message, and the ways to change them.

    Attributes:
        state: all that can be chosen, as JSON values.
        message: the line below the controls.
    """

    state: Any
    message: Any

    def change(self, **parts: Any) -> None:
        """Set parts of the state; an error becomes the message."""

    def attempt(self, action: Callable[[], None]) -> None:
        """Run an action; an error becomes the message."""


class View:
    """Sends what a person does to the explorer, and shows the explorer's state; ``box`` is the page's part."""

    box: ipywidgets.Widget

    def __init__(self, explorer: ExplorerState) -> None:
        self.explorer = explorer
        self._bound: list[tuple[ipywidgets.Widget, str]] = []
        self._showing = False

    def bind(self, control: ipywidgets.Widget, key: str) -> None:
        """Keep ``control.value`` and ``state[key]`` equal; a value that is refused is taken back in the page."""
        self._bound.append((control, key))
        control.observe(lambda change: self._moved(key, change["new"]), "value")

    def press(self, button: ipywidgets.Button, action: Callable[[], None]) -> None:
        """Have ``button`` run ``action``; its error becomes the message."""
        button.on_click(lambda _: self.explorer.attempt(action))

    def show(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Bring the page from state ``old`` ({}: all of it) to state ``new``."""
        self._showing = True
        try:
            self.draw(new, {key for key in new if key not in old or new[key] != old[key]})
            self._set_controls(new)
        finally:
            self._showing = False

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """Draw ``state``, whose keys ``differs`` changed, and set the controls' ranges."""
        raise NotImplementedError

    def _moved(self, key: str, value: Any) -> None:
        if self._showing:
            return
        self.explorer.change(**{key: value})
        if self.explorer.state[key] != value:
            self._showing = True
            try:
                self._set_controls(self.explorer.state)
            finally:
                self._showing = False

    def _set_controls(self, state: dict[str, Any]) -> None:
        for control, key in self._bound:
            control.value = state[key]
