"""Numbers and pictures of a codebook's state, for its HTML card."""

from __future__ import annotations

from vqlab.quantize.codebook import Codebook
from vqlab.quantize.display import bar_chart_svg
from vqlab.quantize.tensor_values import host_values, scalar_text
from vqlab.quantize.usage import perplexity


def codebook_summary(book: Codebook) -> tuple[dict[str, str], str]:
    """Summarise the state of a codebook without changing it and without waiting for an accelerator.

    Args:
        book: The codebook, on any device, before or after its first training step.

    Returns:
        Formatted numbers by name, and a bar chart as SVG. Before the first training step, and for a codebook whose
        values are not in the memory of the host, the numbers are a note and the chart is empty.
    """
    steps, recent = host_values(book.step), host_values(book.recent)
    if steps is None or recent is None:
        return {"state": f"values on {book.codes.device} are not read; move the module to the CPU to see them"}, ""
    if not steps[0]:
        return {"state": _initial_state(book)}, ""
    used, tokens, total = sum(count > 0 for count in recent), sum(recent), float(book.counts.sum())
    window = "last restart check" if book.restart_every else "first training step"
    numbers = {
        f"codes used since the {window}": f"{used:,} of {len(recent):,} ({tokens:,.0f} vectors)",
        "perplexity of the EMA counts": scalar_text(perplexity(book.counts)),
        "mean norm of the codes": scalar_text(book.codes.detach().norm(dim=1).mean()),
        "training steps": f"{steps[0]:,}",
    }
    shares = host_values(book.counts.sort(descending=True).values / total) or []
    return numbers, bar_chart_svg(shares, "share of vectors per code (EMA), codes sorted by use")


def _initial_state(book: Codebook) -> str:
    if bool(book.filled):
        return f"no training step yet; codes from init={book.init!r}"
    return f"not initialised; the first training batch sets the codes (init={book.init!r})"
