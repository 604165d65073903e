"""The gradient probe: what any vector-quantization module does to the gradient, token by token. Torch only."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch._functorch.config
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from vqlab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Rows = Float[Tensor, "N D"]
PerToken = Float[Tensor, " N"]

COLUMNS = {
    "angle_gradients": "angle of the gradient at z_q to the gradient at z_e (degrees)",
    "cos_gradients": "cosine of the same two gradients",
    "length_ratio": "length of the gradient at z_e over that at z_q",
    "angle_codes": "angle of z_e to its code z_q (degrees)",
    "rescale": "λ = length of z_q over length of z_e",
    "relative_error": "squared distance of z_e to z_q over squared length of z_e",
    "angle_at_q": "angle of the gradient at z_q to z_q (degrees)",
    "angle_at_e": "angle of the gradient at z_e to z_e (degrees)",
}
_PREFERRED = ("z_q", "quantized", "quantize", "sample", "latents", "last_hidden_state")
_TINY = 1e-30
_WAITING = 64


def angles(a: Rows, b: Rows) -> PerToken:
    """Angle of each pair of rows, degrees in [0, 180]; NaN where a row has no length.

    2·atan2(‖â−b̂‖, ‖â+b̂‖), which keeps its digits near 0 and 180 where arccos loses them (Kahan, 2006).
    """
    a_norm, b_norm = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    a_unit, b_unit = a / a_norm.clamp_min(_TINY), b / b_norm.clamp_min(_TINY)
    turn = 2 * torch.atan2((a_unit - b_unit).norm(dim=1), (a_unit + b_unit).norm(dim=1))
    known = (a_norm > _TINY) & (b_norm > _TINY)
    return torch.where(known[:, 0], turn.rad2deg(), torch.nan)


def token_records(e: Rows, q: Rows, g_q: Rows | None = None, g_e: Rows | None = None) -> dict[str, PerToken]:
    """What COLUMNS names, for each token; NaN in the gradients' columns where there are none."""
    e, q = e.detach().float(), q.detach().float()
    missing = torch.full((len(e),), torch.nan, device=e.device)
    records = dict.fromkeys(COLUMNS, missing)
    length = e.norm(dim=1)
    records |= {
        "angle_codes": angles(e, q),
        "rescale": q.norm(dim=1) / length,
        "relative_error": (e - q).square().sum(dim=1) / length.square(),
    }
    if g_q is not None and g_e is not None:
        g_q, g_e = g_q.detach().float(), g_e.detach().float()
        between = angles(g_q, g_e)
        records |= {
            "angle_gradients": between,
            "cos_gradients": between.deg2rad().cos(),
            "length_ratio": g_e.norm(dim=1) / g_q.norm(dim=1),
            "angle_at_q": angles(g_q, q),
            "angle_at_e": angles(g_e, e),
        }
    return records


class Probe:
    """A context manager on one module; see ``probe``."""

    def __init__(self, module: nn.Module, channel_dim: int | None = None, max_tokens: int = 4096) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"probe({type(module).__name__}): give the vector-quantization module, a torch.nn.Module")
        if max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens}: must be at least 1")
        self.module, self.channel_dim, self.max_tokens = module, channel_dim, max_tokens
        self._records: list[dict[str, PerToken]] = []
        self._waiting: dict[int, tuple[Any, Any, Tensor, Tensor]] = {}
        self._calls = 0
        self._handle: Any = None

    def __enter__(self) -> Probe:
        if self._handle is not None:
            raise InputError("probe: is open already; use one probe for each `with`")
        self._donated: bool = torch._functorch.config.donated_buffer  # type: ignore[attr-defined]
        # A compiled backward that gives its buffers away cannot be asked twice, and the probe asks once more.
        torch._functorch.config.donated_buffer = False  # type: ignore[attr-defined]
        self._handle = self.module.register_forward_hook(self._seen, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
        self._handle = None
        self._waiting.clear()
        torch._functorch.config.donated_buffer = self._donated  # type: ignore[attr-defined]

    def _seen(self, _: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        z_e = next((value for value in [*args, *kwargs.values()] if _is_floating(value)), None)
        if z_e is None:
            raise InputError(f"probe({type(self.module).__name__}): its input has no floating-point tensor")
        z_q = _quantized(output, z_e)
        if z_q is None:
            raise InputError(
                f"probe({type(self.module).__name__}): no output has the input's shape {tuple(z_e.shape)}; "
                "probe the module that maps z_e to z_q"
            )
        call, self._calls = self._calls, self._calls + 1
        if not (z_e.requires_grad and z_q.requires_grad):
            self._keep(call, z_e, z_q)
            return
        while len(self._waiting) >= _WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        self._waiting[call] = (get_gradient_edge(z_q), get_gradient_edge(z_e), z_e.detach(), z_q.detach())
        me = weakref.ref(self)

        def arrived(g_q: Tensor) -> None:
            probe = me()
            if probe is not None:
                probe._carried(call, g_q)

        z_q.register_hook(arrived)

    def _carried(self, call: int, g_q: Tensor) -> None:
        """Ask for the gradient that goes through z_q alone: z_e's own would hold the commitment term too."""
        if call not in self._waiting:
            return
        edge_q, edge_e, z_e, z_q = self._waiting.pop(call)
        try:
            (g_e,) = torch.autograd.grad([edge_q], [edge_e], [g_q], retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise InputError(
                f"probe({type(self.module).__name__}): its backward cannot be asked twice ({error}); "
                "open the probe before the module is compiled, or probe it uncompiled"
            ) from None
        self._keep(call, z_e, z_q, g_q, torch.zeros_like(z_e) if g_e is None else g_e)

    def _keep(self, call: int, z_e: Tensor, z_q: Tensor, *gradients: Tensor) -> None:
        rows = [self._rows(tensor) for tensor in (z_e, z_q, *gradients)]
        step = max(1, -(-len(rows[0]) // self.max_tokens))
        records = token_records(*(part[::step] for part in rows))
        kept = {name: value.cpu() for name, value in records.items()}
        self._records.append({"call": torch.full((len(kept["rescale"]),), float(call)), **kept})

    def _rows(self, tensor: Tensor) -> Rows:
        axis = self.channel_dim if self.channel_dim is not None else _channel_axis(self.module, tensor)
        if not -tensor.dim() <= axis < tensor.dim():
            raise InputError(f"channel_dim={axis}: the tensor has {tensor.dim()} axes")
        return tensor.detach().movedim(axis, -1).reshape(-1, tensor.shape[axis])

    def records(self) -> dict[str, PerToken]:
        """All tokens seen, as ``call`` and the COLUMNS, on CPU; raises InputError if none was."""
        if not self._records:
            raise InputError(
                f"probe({type(self.module).__name__}): nothing was seen; run the module and call backward inside the "
                "`with`. A compiled model hides its inner modules: probe it before torch.compile, or the whole of "
                "a compiled quantizer"
            )
        return {name: torch.cat([part[name] for part in self._records]) for name in self._records[0]}

    def table(self) -> pd.DataFrame:
        """One row a token; ``COLUMNS`` says what the columns mean, ``call`` counts the forward passes."""
        import pandas as pd

        return pd.DataFrame({name: value.numpy() for name, value in self.records().items()}).astype({"call": int})

    def summary(self) -> pd.DataFrame:
        """Mean, median, 5 % and 95 % of each column, and the share of tokens more than 90° from their code."""
        import pandas as pd

        table = self.table()[list(COLUMNS)]
        rows = {
            name: {
                "mean": table[name].mean(),
                "median": table[name].median(),
                "5 %": table[name].quantile(0.05),
                "95 %": table[name].quantile(0.95),
            }
            for name in COLUMNS
        }
        return pd.DataFrame({**rows, "obtuse_share": {"mean": (table["angle_codes"] > 90).mean()}}).T

    def figure(self) -> Figure:
        """Histograms of the angles and of λ over all tokens seen."""
        import seaborn as sns

        from vqlab.printing import PrintedFigure

        sns.set_theme(style="whitegrid", palette="colorblind")
        table = self.table()
        shown = [name for name in ("angle_gradients", "length_ratio", "angle_codes", "rescale") if table[name].any()]
        figure = PrintedFigure(figsize=(4 * len(shown), 3.2), layout="constrained")
        figure.suptitle(f"{type(self.module).__name__}: {len(table)} tokens in {table['call'].nunique()} passes")
        for axis, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            axis.hist(table[name].dropna(), bins=60)
            axis.set(xlabel=_wrapped(COLUMNS[name]), ylabel="tokens")
        return figure


def probe(module: nn.Module, *, channel_dim: int | None = None, max_tokens: int = 4096) -> Probe:
    """Watch any vector-quantization module: ``with probe(module) as seen: loss.backward()``; ``seen.table()``.

    module: its first floating-point input is z_e, and an output of the same shape is z_q: the output itself,
    or inside a tuple, a dict or an output object. channel_dim: the vectors' axis; found unless given (the
    module's own channel_dim, else 1 for images and volumes, −1 for sequences). max_tokens: kept of each pass,
    evenly spaced. The gradient at z_e is the one carried through z_q alone, without a commitment term.
    Nothing stays on the module after the ``with``, and no tensor of the model stays alive. Works under
    autocast, and on a module compiled by torch.compile while the probe is open or called as a whole.
    Raises InputError for a module it cannot read.
    """
    return Probe(module, channel_dim, max_tokens)


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2


def _quantized(output: Any, z_e: Tensor) -> Tensor | None:
    """The quantized tensor: of z_e's shape and not z_e itself, by a telling name first."""
    found = [(name, value) for name, value in _tensors(output) if _is_floating(value) and value.shape == z_e.shape]
    other = [(name, value) for name, value in found if value is not z_e]
    named = [value for name, value in other if name in _PREFERRED]
    return next(iter([*named, *(value for _, value in other)]), None)


def _tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, dict):
        for name, value in output.items():
            yield from ((str(name), tensor) for _, tensor in _tensors(value))
    elif isinstance(output, Iterable) and not isinstance(output, str | bytes):
        names = getattr(output, "_fields", ())
        for index, value in enumerate(output):
            name = names[index] if index < len(names) else ""
            yield from ((name, tensor) for _, tensor in _tensors(value))
    elif hasattr(output, "__dict__"):
        yield from ((name, value) for name, value in vars(output).items() if isinstance(value, Tensor))


def _channel_axis(module: nn.Module, tensor: Tensor) -> int:
    own = getattr(module, "channel_dim", None)
    if isinstance(own, int):
        return own
    if tensor.dim() >= 4 or getattr(module, "channel_last", True) is False:
        return 1
    return -1


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 32)
