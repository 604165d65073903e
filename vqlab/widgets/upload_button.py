"""Widget that sends one image file from the browser to the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from vqlab.errors import InputError
from vqlab.widgets.components import widget_script

# Jupyter closes the connection on a message of more than 10 MiB, so the browser must not send a larger file.
MAX_BYTES = 9_000_000


class UploadButton(anywidget.AnyWidget):
    """Button that lets the user select a PNG or JPEG file of at most 9 MB.

    Every attribute is synchronised with the browser.

    Attributes:
        label: text of the button.
        max_bytes: size of the largest file that the browser sends.
    """

    _esm = widget_script((), "kernel", "upload_button")
    label = traitlets.Unicode("your image").tag(sync=True)
    max_bytes = traitlets.Int(MAX_BYTES, help="size of the largest file that is sent, bytes").tag(sync=True)

    def on_file(self, callback: Callable[[bytes, str], None], on_error: Callable[[InputError], None]) -> None:
        """Register functions that are called for each selected file.

        Args:
            callback: called with the content and the name of the file.
            on_error: called instead, with the error, if the file is larger than ``max_bytes``.
        """

        def on_message(_: Any, file: dict[str, Any], buffers: list[memoryview]) -> None:
            if buffers:
                callback(bytes(buffers[0]), file["name"])
            else:
                size = f"{file['size'] / 1e6:.1f} MB: must be at most {self.max_bytes / 1e6:.0f} MB"
                on_error(InputError(f"{file['name']}: {size}; reduce the size of the image"))

        self.on_msg(on_message)
