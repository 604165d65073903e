"""The gradient probe: what any vector-quantization module does to the gradient, token by token. Torch only."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
import torch._functorch.config
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from vqlab.errors import InputError
from vqlab.probe.outputs import find_channel_dim, find_z_q, is_vectors
from vqlab.probe.records import COLUMNS, PerToken, Rows, token_records

if TYPE_CHECKING:
    import pandas as pd

_MAX_PENDING = 64


class Probe:
    """A context manager on one module; see ``probe``."""

    def __init__(self, module: nn.Module, channel_dim: int | None = None, max_tokens: int = 4096) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"probe({type(module).__name__}): give the vector-quantization module, a torch.nn.Module")
        if max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens}: must be at least 1")
        self.module, self.channel_dim, self.max_tokens = module, channel_dim, max_tokens
        self._records: list[dict[str, PerToken]] = []
        self._pending: dict[int, tuple[Any, Any, Tensor, Tensor]] = {}
        self._calls = 0
        self._handle: Any = None

    def __enter__(self) -> Probe:
        if self._handle is not None:
            raise InputError("probe: is open already; use one probe for each `with`")
        self._donated: bool = torch._functorch.config.donated_buffer  # type: ignore[attr-defined]
        # A compiled backward that gives its buffers away cannot be asked twice, and the probe asks once more.
        torch._functorch.config.donated_buffer = False  # type: ignore[attr-defined]
        self._handle = self.module.register_forward_hook(self._on_forward, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
        self._handle = None
        self._pending.clear()
        torch._functorch.config.donated_buffer = self._donated  # type: ignore[attr-defined]

    def _on_forward(self, _: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        z_e = next((value for value in [*args, *kwargs.values()] if is_vectors(value)), None)
        if z_e is None:
            raise InputError(f"probe({type(self.module).__name__}): its input has no floating-point tensor")
        z_q = find_z_q(output, z_e)
        if z_q is None:
            raise InputError(
                f"probe({type(self.module).__name__}): no output has the input's shape {tuple(z_e.shape)}; "
                "probe the module that maps z_e to z_q"
            )
        call, self._calls = self._calls, self._calls + 1
        if not (z_e.requires_grad and z_q.requires_grad):
            self._record(call, z_e, z_q)
            return
        while len(self._pending) >= _MAX_PENDING:
            self._pending.pop(next(iter(self._pending)))
        self._pending[call] = (get_gradient_edge(z_q), get_gradient_edge(z_e), z_e.detach(), z_q.detach())
        me = weakref.ref(self)

        def on_gradient(g_q: Tensor) -> None:
            probe = me()
            if probe is not None:
                probe._record_gradient(call, g_q)

        z_q.register_hook(on_gradient)

    def _record_gradient(self, call: int, g_q: Tensor) -> None:
        """Ask for the gradient that goes through z_q alone: z_e's own would hold the commitment term too."""
        if call not in self._pending:
            return
        edge_q, edge_e, z_e, z_q = self._pending.pop(call)
        try:
            (g_e,) = torch.autograd.grad([edge_q], [edge_e], [g_q], retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise InputError(
                f"probe({type(self.module).__name__}): its backward cannot be asked twice ({error}); "
                "open the probe before the module is compiled, or probe it uncompiled"
            ) from None
        self._record(call, z_e, z_q, g_q, torch.zeros_like(z_e) if g_e is None else g_e)

    def _record(self, call: int, z_e: Tensor, z_q: Tensor, *gradients: Tensor) -> None:
        rows = [self._rows(tensor) for tensor in (z_e, z_q, *gradients)]
        step = max(1, -(-len(rows[0]) // self.max_tokens))
        records = token_records(*(part[::step] for part in rows))
        kept = {name: value.cpu() for name, value in records.items()}
        self._records.append({"call": torch.full((len(kept["rescale"]),), float(call)), **kept})

    def _rows(self, tensor: Tensor) -> Rows:
        axis = self.channel_dim if self.channel_dim is not None else find_channel_dim(self.module, tensor)
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
