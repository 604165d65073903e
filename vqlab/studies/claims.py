"""What publications say of families of quantizers, beside what a study measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vqlab.errors import InputError
from vqlab.studies.measures import CODE_MEASURES, MEASURES
from vqlab.studies.study_table import StudyTable

if TYPE_CHECKING:
    import pandas as pd

_LABELS = {**MEASURES, **CODE_MEASURES}
_COLUMNS = ("one", "other", "measure", "published", "measured difference", "verdict", "source")
_SIGNS = {1: "higher", -1: "lower"}


class Claim(NamedTuple):
    """A published comparison of two arms of the study ``families``.

    Attributes:
        source: authors, title and year, or the repository.
        one: name of an arm.
        other: name of the arm that it is compared with.
        measure: a key of ``MEASURES`` or ``CODE_MEASURES``.
        sign: 1 if the source has a higher value for ``one``, −1 for a lower one.
    """

    source: str
    one: str
    other: str
    measure: str
    sign: int


_ROTATION = "Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2025"
_FSQ = "Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2024"
_SIMVQ = "Zhu et al., Addressing Representation Collapse in Vector Quantized Models with One Linear Layer, 2025"
# 32.07 dB for the nearest code with EMA, 31.75 for SimVQ, 30.85 for FSQ and 26.14 for LFQ.
_SURVEY = "xyfJASON, visual-tokenizer-pytorch: CelebA of 64 pixels, K = 512"
CLAIMS = (
    # VQ-VAE with K = 1,024 and Euclidean distance: error 5.9e-3 to 5.1e-4 (there not divided by |z_e|²), usage 100 to
    # 97 %, training loss of the reconstruction 0.107 to 0.116.
    Claim(_ROTATION, "nearest code, RRT", "nearest code", "quantization_error", -1),
    Claim(_ROTATION, "nearest code, RRT", "nearest code", "utilisation", -1),
    Claim(_ROTATION, "nearest code, RRT", "nearest code", "psnr", -1),
    Claim(_FSQ, "FSQ", "nearest code", "utilisation", 1),
    Claim(_SIMVQ, "SimVQ", "nearest code", "utilisation", 1),
    Claim(_SURVEY, "FSQ", "nearest code", "psnr", -1),
    Claim(_SURVEY, "LFQ", "nearest code", "psnr", -1),
    Claim(_SURVEY, "SimVQ", "nearest code", "psnr", -1),
)


def claims_beside_measured(study: StudyTable) -> pd.DataFrame:
    """Put published comparisons beside the paired differences of a study.

    Args:
        study: of ``families``, with two seeds or more.

    Returns:
        One row for each of ``CLAIMS`` that the study has both arms of: ``one`` and ``other``, the measure, what is
        published, the measured difference with its 95 % interval, whether it ``agrees``, ``disagrees`` or was ``not
        shown``, and the source.

    Raises:
        InputError: if no row is finished.
    """
    import pandas as pd

    rows = []
    for claim in CLAIMS:
        try:
            found = study.difference(claim.one, claim.other, [claim.measure]).iloc[0]
        except (InputError, KeyError):
            continue
        change, low, high = (float(found[name]) for name in ("mean difference", "low", "high"))
        rows.append(
            {
                "one": claim.one,
                "other": claim.other,
                "measure": _LABELS[claim.measure],
                "published": _SIGNS[claim.sign],
                "measured difference": f"{change:+.3g} [{low:+.3g}, {high:+.3g}]",
                "verdict": _verdict(claim.sign, change, differs=bool(found["differs"])),
                "source": claim.source,
            }
        )
    return pd.DataFrame(rows, columns=_COLUMNS).set_index("one")


def _verdict(sign: int, change: float, *, differs: bool) -> str:
    if not differs:
        return "not shown"
    return "agrees" if sign * change > 0 else "disagrees"
