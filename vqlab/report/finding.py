"""A finding: what a notebook measured, in one sentence with its numbers and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.errors import InputError
from vqlab.versions import package_version

if TYPE_CHECKING:
    from vqlab.data import ImageData
    from vqlab.training import Run

MIME_TYPE = "application/vnd.vqlab.finding+json"
NUMBER_RANGE = (3, 5)
_PACKAGES = ("vqlab", "torch")
_RUNS_SHOWN = 3
# Text and background come from the page, so that the block is readable in light and dark themes.
_BLOCK = (
    "border:1px solid rgba(128,128,128,.45);border-left:5px solid #0072B2;border-radius:6px;padding:10px 16px;"
    "max-width:60rem;box-sizing:border-box;color:inherit;background:transparent;line-height:1.45"
)
_NUMBERS = "display:flex;flex-wrap:wrap;gap:6px 28px;margin:8px 0"
_NAME = "font-size:85%;opacity:.8"

Value = float | None


@dataclass(frozen=True)
class Finding:
    """What a notebook found: one sentence, three to five numbers, and the Runs and data that they rest on.

    In a notebook it is displayed as a block. Its output also holds ``content`` as ``MIME_TYPE``, from which
    ``vqlab run`` takes the card of the notebook and the headline number, which is the first of the numbers.

    Args:
        sentence: one sentence, computed from the numbers.
        numbers: value and unit (empty for none) by name, in the order of display; a value is None if it was not
            measured.
        runs: the Runs that the numbers were measured on. Default: none.
        data: images that the numbers describe if there are no Runs. Default: none.
        measured_on: provenance of Runs that are not at hand, as ``StudyTable.measured_on``. Default: none.

    Raises:
        InputError: if there are fewer than three or more than five numbers.

    Example:
        >>> Finding("It works.", {"PSNR": (23.61, "dB"), "codes": (256, ""), "FID": (None, "")})
        Finding: It works. PSNR 23.6 dB; codes 256; FID not measured
    """

    sentence: str
    numbers: Mapping[str, tuple[Value, str]]
    runs: Sequence[Run] = ()
    data: ImageData | None = None
    measured_on: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        low, high = NUMBER_RANGE
        if not low <= len(self.numbers) <= high:
            raise InputError(f"finding: has {len(self.numbers)} numbers; give {low} to {high}, so that they fit a card")

    @property
    def content(self) -> dict[str, Any]:
        """JSON values: ``sentence``, ``numbers`` (``name``, ``value``, ``unit``, ``text``) and ``provenance``.

        ``provenance`` holds the ids of the ``runs``, the ``data`` (``name`` and ``fingerprint``), the ``devices`` and
        the ``versions`` of vqlab and torch.
        """
        numbers = [
            {"name": name, "value": value, "unit": unit, "text": format_quantity(value, unit)}
            for name, (value, unit) in self.numbers.items()
        ]
        return {"sentence": self.sentence, "numbers": numbers, "provenance": self._provenance()}

    def _provenance(self) -> dict[str, Any]:
        # Imports torch, which the process of the index page does not need.
        from vqlab.training.device import find_device

        records = [run.provenance for run in self.runs]
        data = {
            _data_name(run): record.get("data_fingerprint", "") for run, record in zip(self.runs, records, strict=True)
        }
        if self.data is not None:
            data[self.data.name] = self.data.fingerprint
        if self.measured_on is not None:
            data[self.measured_on["data"]] = self.measured_on["data_fingerprint"]
            records = [*records, dict(self.measured_on)]
        installed = {"packages": {name: package_version(name) for name in _PACKAGES}, "device": find_device()}
        sources = records or [installed]
        return {
            "runs": list(dict.fromkeys(run.config.id for run in self.runs)),
            "data": [{"name": name, "fingerprint": fingerprint} for name, fingerprint in data.items()],
            "devices": _distinct(record.get("device") for record in sources),
            "versions": {name: _distinct(record["packages"].get(name) for record in sources) for name in _PACKAGES},
        }

    def __repr__(self) -> str:
        numbers = "; ".join(f"{number['name']} {number['text']}" for number in self.content["numbers"])
        return f"Finding: {self.sentence} {numbers}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        content = self.content
        return {MIME_TYPE: content, "text/html": _block_html(content), "text/plain": repr(self)}


def format_quantity(value: Value, unit: str = "") -> str:
    """Write a value and its unit with three digits; counts and values of 1,000 or more are written in full.

    Args:
        value: the value; None if it was not measured.
        unit: the unit; empty for none.

    Returns:
        The text.

    Example:
        >>> [format_quantity(*pair) for pair in ((23.61, "dB"), (12345, "bits"), (0.71249, ""), (None, "dB"))]
        ['23.6 dB', '12,345 bits', '0.712', 'not measured']
    """
    if value is None or value != value:
        return "not measured"
    text = f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    space = "" if unit == "°" else " "
    return f"{text.replace('-', '−')}{space}{unit}".strip()


def provenance_line(provenance: Mapping[str, Any]) -> str:
    """Write the provenance of a finding in one line.

    Args:
        provenance: ``Finding.content["provenance"]``.

    Returns:
        Run ids (three at most, then their number), data, versions and device, separated by ``·``.

    Example:
        >>> provenance_line({"runs": ["a", "b", "c", "d"], "data": [{"name": "photos", "fingerprint": "4af0"}],
        ...                  "devices": ["cpu"], "versions": {"vqlab": ["0.1.0"], "torch": ["2.6"]}})
        'Runs a, b, c and 1 more · photos 4af0 · vqlab 0.1.0, torch 2.6 · cpu'
    """
    ids = provenance["runs"]
    more = f" and {len(ids) - _RUNS_SHOWN} more" if len(ids) > _RUNS_SHOWN else ""
    parts = [
        f"Run{'s' if len(ids) > 1 else ''} {', '.join(ids[:_RUNS_SHOWN])}{more}" if ids else "",
        ", ".join(f"{data['name']} {data['fingerprint']}".strip() for data in provenance["data"]),
        ", ".join(f"{name} {' and '.join(provenance['versions'][name])}" for name in _PACKAGES),
        ", ".join(provenance["devices"]),
    ]
    return " · ".join(filter(None, parts))


def headline_number(content: Mapping[str, Any] | None) -> str:
    """Write the first number of a finding.

    Args:
        content: ``Finding.content``; None for a notebook without a finding.

    Returns:
        Name and value, as "PSNR 23.6 dB"; an empty string without a finding.
    """
    return f"{content['numbers'][0]['name']} {content['numbers'][0]['text']}" if content else ""


def numbers_html(numbers: Sequence[Mapping[str, Any]]) -> str:
    """Write the numbers of a finding as HTML without a style of their own.

    Args:
        numbers: ``Finding.content["numbers"]``.

    Returns:
        A ``<div>`` for each number, the value in ``<b>`` and the name in ``<span>``.
    """
    return "".join(
        f'<div><b>{escape(number["text"])}</b><br><span style="{_NAME}">{escape(number["name"])}</span></div>'
        for number in numbers
    )


def _block_html(content: Mapping[str, Any]) -> str:
    return (
        f'<div style="{_BLOCK}"><div style="font-weight:600">{escape(content["sentence"])}</div>'
        f'<div style="{_NUMBERS}">{numbers_html(content["numbers"])}</div>'
        f'<div style="{_NAME}">{escape(provenance_line(content["provenance"]))}</div></div>'
    )


def _data_name(run: Run) -> str:
    """Name of the data source, without the path of a folder."""
    return Path(run.config.data.source.removeprefix("folder:")).name


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))
