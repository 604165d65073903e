"""The gradient probe, a context manager that records what a vector-quantization module does to the gradient."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
import torch._functorch.config
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from vqlab.errors import InputError
from vqlab.probe.known_maps import map_residuals
from vqlab.probe.module_io import find_channel_dim, find_z_e, find_z_q
from vqlab.probe.records import COLUMNS, PerToken, Rows, token_records
from vqlab.quantize.display import bar_chart_svg, summary_html
from vqlab.quantize.quantizer import Quantizer

if TYPE_CHECKING:
    import pandas as pd

_MAX_PENDING = 64
_HISTOGRAM_BINS = 60
# Above the rounding of bfloat16, below the difference of any two known maps at an angle of 2 degrees.
_SAME_MAP = 0.02


class Probe:
    """A context manager that records one vector-quantization module; ``vqlab.probe`` creates it.

    Args:
        module: The module that maps z_e to z_q.
        channel_dim: Axis of the vectors' channels. Default None: it is found, see ``vqlab.probe``.
        max_tokens: Maximum number of tokens recorded in each forward pass, at least 1; evenly spaced over the pass.
            Default 4096.

    Attributes:
        module: The recorded module.
        channel_dim: As the argument.
        max_tokens: As the argument.

    Raises:
        InputError: if ``module`` is no ``torch.nn.Module`` or ``max_tokens`` is below 1.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.VectorQuantizer(16, 8)
        >>> with Probe(quantizer) as probe:
        ...     quantizer(torch.randn(2, 8, 4, 4, requires_grad=True)).z_q.sum().backward()
        >>> probe
        Probe(VectorQuantizer, 32 tokens, 1 pass)
    """

    def __init__(self, module: nn.Module, channel_dim: int | None = None, max_tokens: int = 4096) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(
                f"probe: module is a {type(module).__name__}, must be a torch.nn.Module; "
                "use the module that maps z_e to z_q"
            )
        if max_tokens < 1:
            raise InputError(f"max_tokens={max_tokens}: must be at least 1")
        self.module, self.channel_dim, self.max_tokens = module, channel_dim, max_tokens
        self._records: list[dict[str, PerToken]] = []
        self._residuals: list[dict[str, PerToken]] = []
        self._pending: dict[int, tuple[Any, Any, Tensor, Tensor]] = {}
        self._calls = 0
        self._hook: Any = None

    def __enter__(self) -> Probe:
        if self._hook is not None:
            raise InputError("probe: is already open; use one probe for each `with` statement")
        self._donated_buffer: bool = torch._functorch.config.donated_buffer
        # A compiled backward with donated buffers cannot run twice, and the probe runs it a second time.
        torch._functorch.config.donated_buffer = False
        self._hook = self.module.register_forward_hook(self._on_forward, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()
        self._hook = None
        self._pending.clear()
        torch._functorch.config.donated_buffer = self._donated_buffer

    def __repr__(self) -> str:
        return f"Probe({type(self.module).__name__}, {self._num_tokens()} tokens, {self._passes_text()})"

    def _repr_html_(self) -> str:
        title = f"Probe of {type(self.module).__name__}"
        if not self._records:
            return summary_html(title, {"tokens": "0; run forward and backward inside the `with` statement"})
        records = self.records()
        numbers = {
            "tokens": f"{self._num_tokens():,} in {self._passes_text()}",
            "median angle of the gradients": f"{_median(records['angle_gradients']):.4g}°",
            "median ratio of gradient lengths": f"{_median(records['length_ratio']):.4g}",
            "median λ": f"{_median(records['rescale']):.4g}",
        }
        if self._residuals:
            numbers["backward"] = self.backward_name()
        return summary_html(title, numbers, _angle_histogram(records["angle_gradients"]))

    def _num_tokens(self) -> int:
        return sum(len(part["call"]) for part in self._records)

    def _passes_text(self) -> str:
        return "1 pass" if len(self._records) == 1 else f"{len(self._records)} passes"

    def _on_forward(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        z_e = find_z_e(args, kwargs)
        if z_e is None:
            raise InputError(
                f"probe: {type(self.module).__name__} has no floating-point tensor with at least two axes as its "
                "input; probe the module that maps z_e to z_q"
            )
        z_q = find_z_q(output, z_e)
        if z_q is None:
            raise InputError(
                f"probe: no output of {type(self.module).__name__} has the input's shape {tuple(z_e.shape)}; "
                "probe the module that maps z_e to z_q"
            )
        call, self._calls = self._calls, self._calls + 1
        if not (z_e.requires_grad and z_q.requires_grad):
            self._record(call, z_e, z_q)
            return
        while len(self._pending) >= _MAX_PENDING:
            self._pending.pop(next(iter(self._pending)))
        self._pending[call] = (get_gradient_edge(z_q), get_gradient_edge(z_e), z_e.detach(), z_q.detach())
        # A strong reference would form a cycle: the graph holds the hook, and the probe holds edges of the graph.
        reference = weakref.ref(self)

        def on_gradient(g_q: Tensor) -> None:
            probe = reference()
            if probe is not None:
                probe._record_gradient(call, g_q)

        z_q.register_hook(on_gradient)

    def _record_gradient(self, call: int, g_q: Tensor) -> None:
        """Compute the gradient through z_q alone: the gradient of z_e also holds the commitment term."""
        if call not in self._pending:
            return
        edge_q, edge_e, z_e, z_q = self._pending.pop(call)
        try:
            (g_e,) = torch.autograd.grad([edge_q], [edge_e], [g_q], retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise InputError(
                f"probe: the backward of {type(self.module).__name__} cannot run twice ({error}); "
                "open the probe before the module is compiled, or probe it uncompiled"
            ) from None
        self._record(call, z_e, z_q, g_q, torch.zeros_like(z_e) if g_e is None else g_e)

    def _record(self, call: int, z_e: Tensor, z_q: Tensor, *gradients: Tensor) -> None:
        rows = [self._to_rows(tensor) for tensor in (z_e, z_q, *gradients)]
        step = max(1, -(-len(rows[0]) // self.max_tokens))
        rows = [part[::step] for part in rows]
        if isinstance(self.module, Quantizer):
            rows = [part for part in self.module.to_code_space(*rows) if part is not None]
        records = token_records(*rows)
        if gradients:
            residuals = map_residuals(*rows)
            self._residuals.append({name: value.cpu() for name, value in residuals.items()})
        on_cpu = {name: value.cpu() for name, value in records.items()}
        self._records.append({"call": torch.full((len(on_cpu["rescale"]),), float(call)), **on_cpu})

    def _to_rows(self, tensor: Tensor) -> Rows:
        axis = self.channel_dim if self.channel_dim is not None else find_channel_dim(self.module, tensor)
        if not -tensor.dim() <= axis < tensor.dim():
            raise InputError(
                f"channel_dim={axis}: the tensor has {tensor.dim()} axes, must be in {-tensor.dim()}…{tensor.dim() - 1}"
            )
        return tensor.detach().movedim(axis, -1).reshape(-1, tensor.shape[axis])

    def records(self) -> dict[str, PerToken]:
        """Return the recorded tokens as tensors.

        Returns:
            Values by column name, float32, (N,) each, on the CPU: ``call``, the number of the forward pass from 0,
            and the columns of ``vqlab.probe.COLUMNS``. Columns of gradients are NaN for passes without a backward.

        Raises:
            InputError: if no token was recorded.
        """
        if not self._records:
            raise InputError(
                f"probe: no token of {type(self.module).__name__} was recorded; run the module and call backward "
                "inside the `with` statement. Modules inside a compiled model do not run hooks: open the probe before "
                "torch.compile, or probe the compiled quantizer as a whole"
            )
        return {name: torch.cat([part[name] for part in self._records]) for name in self._records[0]}

    def maps(self) -> pd.DataFrame:
        """Compare the backward of the module with known maps from the gradient at z_q, g, to the gradient at z_e.

        Returns:
            One row for each map, the nearest first, with median and 95 % quantile over tokens of the relative
            residual, ‖∇ₑ − map(g)‖ / ‖∇ₑ‖. With vectors near their codes all rotations are nearly straight-through:
            then compare the residuals, not the order alone.

        Raises:
            InputError: if no backward was recorded.
        """
        import pandas as pd

        residuals = self._joined_residuals()
        if not residuals:
            raise InputError(
                f"probe: no backward of {type(self.module).__name__} was recorded; call backward inside the `with` "
                "statement"
            )
        table = pd.DataFrame(
            {
                "median residual": {name: _median(value) for name, value in residuals.items()},
                "95 % residual": {name: float(value.double().quantile(0.95)) for name, value in residuals.items()},
            }
        )
        return table.rename_axis("map").sort_values("median residual", kind="stable")

    def backward_name(self) -> str:
        """Name the known map that the backward of the module is.

        Returns:
            The name of the row with the smallest median residual in ``maps`` and this residual; or, if that is above
            2 %, that the map is none of them.

        Raises:
            InputError: if no backward was recorded.
        """
        table = self.maps()
        name, residual = str(table.index[0]), float(table["median residual"].iloc[0])
        text = f"{name} (median residual {residual:.2g})"
        return text if residual <= _SAME_MAP else f"none of the known maps; the nearest is {text}"

    def _joined_residuals(self) -> dict[str, PerToken]:
        parts = self._residuals
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def table(self) -> pd.DataFrame:
        """Return the recorded tokens as a table.

        Returns:
            One row a token. The columns are those of ``records``.

        Raises:
            InputError: if no token was recorded.
        """
        import pandas as pd

        return pd.DataFrame({name: value.numpy() for name, value in self.records().items()}).astype({"call": int})

    def summary(self) -> pd.DataFrame:
        """Summarise the recorded tokens.

        Returns:
            One row for each column of ``vqlab.probe.COLUMNS``, with mean, median and the 5 % and 95 % quantiles; and
            the row ``obtuse_share``, whose mean is the share of tokens more than 90 degrees from their code.

        Raises:
            InputError: if no token was recorded.
        """
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


def _median(values: PerToken) -> float:
    """Median without NaN, as ``summary`` has it; NaN without values."""
    ordered = values[~values.isnan()].double().sort().values
    middle = len(ordered) // 2
    return float(ordered[middle - 1 + len(ordered) % 2 : middle + 1].mean())


def _angle_histogram(angle_gradients: PerToken) -> str:
    defined = angle_gradients[~angle_gradients.isnan()]
    counts = torch.histc(defined, bins=_HISTOGRAM_BINS, min=0, max=180).tolist() if len(defined) else []
    return bar_chart_svg(counts, "tokens by angle between the gradients at z_q and z_e, 0° to 180°")


def probe(module: nn.Module, *, channel_dim: int | None = None, max_tokens: int = 4096) -> Probe:
    """Record what any vector-quantization module does to the gradient, token by token.

    Use it in a ``with`` statement around forward and backward passes, then read ``table``, ``summary`` or ``records``.
    The recorded gradient at z_e is the one through z_q alone, without a commitment term. Training under a probe gives
    the same gradients. For a quantizer of vqlab with ``code_dim``, the vectors, codes and gradients are those
    inside its projections, where the transport acts. After the ``with`` statement no hook stays on the module and no
    tensor of the model stays alive. Works under autocast, for a module that ``torch.compile`` compiles while the probe
    is open, and for a compiled quantizer as a whole.

    Args:
        module: The module that maps z_e to z_q, of any library. Its first floating-point input with at least two
            axes is z_e, and an output of the same shape is z_q: the output itself, or inside a tuple, a dict or an
            output object.
        channel_dim: Axis of the vectors' channels. Default None: the attribute ``channel_dim`` of the module if it has
            one; else the axis, 1 or −1, whose length is the width of the module's codes (``vqlab.probe.module_io``).
            Set it if the module has channels elsewhere.
        max_tokens: Maximum number of tokens recorded in each forward pass, at least 1; evenly spaced over the pass.
            Default 4096. Decrease it to save memory over many passes.

    Returns:
        A ``Probe``, to be opened with ``with``.

    Raises:
        InputError: if ``module`` is no ``torch.nn.Module``, or ``max_tokens`` is below 1; inside the ``with``
            statement, if z_e or z_q is not found, ``channel_dim`` is no axis of the tensor or cannot be found, or the
            backward cannot run twice.

    Example:
        >>> import torch, vqlab
        >>> quantizer = vqlab.VectorQuantizer(16, 8, transport="straight_through")
        >>> z_e = torch.randn(2, 8, 4, 4, requires_grad=True)
        >>> with vqlab.probe(quantizer) as probe:
        ...     quantizer(z_e).z_q.square().sum().backward()
        >>> probe.records()["length_ratio"].unique()
        tensor([1.])
    """
    return Probe(module, channel_dim, max_tokens)
