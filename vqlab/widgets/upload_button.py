"""A file that a person chooses in the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vqlab.errors import InputError

# Jupyter closes the connection on a message of more than 10 MiB, so what is larger must not be sent.
MAX_BYTES = 9_000_000


class Upload(anywidget.AnyWidget):
    """A button for a PNG or JPEG of at most 9 MB; its bytes go to what ``on_file`` was given."""

    _esm = Path(__file__).parent / "static" / "upload.js"
    label = traitlets.Unicode("your image").tag(sync=True)
    most = traitlets.Int(MAX_BYTES, help="largest file that is sent, bytes").tag(sync=True)

    def on_file(self, call: Callable[[bytes, str], None], refuse: Callable[[InputError], None]) -> None:
        """Have ``call(content, name)`` called for a file, or ``refuse`` for one that is too large to be sent."""

        def heard(_: Any, told: dict[str, Any], buffers: list[memoryview]) -> None:
            if buffers:
                call(bytes(buffers[0]), told["name"])
            else:
                size = f"{told['size'] / 1e6:.1f} MB, at most {self.most / 1e6:.0f} MB can be sent"
                refuse(InputError(f"{told['name']}: {size}; shrink the image"))

        self.on_msg(heard)
