"""The return value of a quantizer."""

from typing import NamedTuple

from torch import Tensor

from vqlab.quantize.display import bar_chart_svg, summary_html
from vqlab.quantize.tensor_values import host_values, scalar_text

_SHOWN_STATS = ("perplexity", "utilisation", "relative_error")


class QuantizerOutput(NamedTuple):
    """What a quantizer returns: a named tuple, so ``z_q, indices, loss, stats = quantizer(z_e)`` also works.

    As a tuple of tensors and a dictionary it is a pytree, passes activation checkpointing, and ``nn.DataParallel``
    gathers it; then ``loss`` and the statistics have one value for each replica.

    Shapes are for z_e of shape (B, D, H, W) with ``channel_dim=1`` and, in brackets, (…, D) with ``channel_dim=-1``.
    Norms and errors are those of vectors and codes in the C channels of a code, after the projection of ``code_dim``.

    Attributes:
        z_q: Quantized vectors, the input of the decoder, of z_e's shape and dtype: (B, D, H, W) [(…, D)]. Its
            backward is the gradient transport.
        indices: Index of the code of each vector, int64, in 0…K−1, or −1 where the mask is False: (B, H, W) [(…)].
        loss: The quantizer's loss, a scalar to add to the reconstruction loss: β‖e − sg[q]‖² plus, with
            ``update="gradient"``, ‖sg[e] − q‖²; means over all elements.
        stats: Scalar tensors without a graph over the vectors of this batch, which is their window:

            - ``perplexity``: exp of the entropy of code usage, 1…K, at most the number of vectors.
            - ``utilisation``: share of codes used in the batch, 0…1.
            - ``dead_codes``: number of codes not used in the batch, 0…K.
            - ``relative_error``: mean over vectors of ‖e − q‖² / ‖e‖².
            - ``z_e_norm``: mean over vectors of ‖e‖.
            - ``code_norm``: mean over vectors of ‖q‖.
            - ``fallback_fraction``: share of vectors for which the transport is undefined, so that the
              straight-through gradient is used, 0…1.
            - ``non_finite``: number of vectors that hold NaN or an infinity, or whose squared length overflows. They
              take no part in the codebook's update and in the numbers above.
            - ``restarts``: number of dead codes restarted in this step; 0 in eval mode.

    Example:
        >>> import torch, vqlab
        >>> vqlab.VectorQuantizer(16, 8)(torch.zeros(2, 8, 4, 4))
        QuantizerOutput(z_q=(2, 8, 4, 4), indices=(2, 4, 4), loss=0, perplexity=1)
    """

    z_q: Tensor
    indices: Tensor
    loss: Tensor
    stats: dict[str, Tensor]

    def __repr__(self) -> str:
        values = {
            "z_q": str(tuple(self.z_q.shape)),
            "indices": str(tuple(self.indices.shape)),
            "loss": scalar_text(self.loss),
        }
        if "perplexity" in self.stats:
            values["perplexity"] = scalar_text(self.stats["perplexity"])
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in values.items())})"

    def _repr_html_(self) -> str:
        numbers = {
            "z_q": f"{tuple(self.z_q.shape)}, {self.z_q.dtype}",
            "indices": str(tuple(self.indices.shape)),
            "window of the numbers": f"this batch, {self.indices.numel():,} vectors",
            "loss": scalar_text(self.loss),
            **{name: scalar_text(self.stats[name]) for name in _SHOWN_STATS if name in self.stats},
        }
        return summary_html(type(self).__name__, numbers, self._usage_chart())

    def _usage_chart(self) -> str:
        indices = self.indices.detach().flatten()
        if host_values(indices[:1]) is None:
            return ""
        # Not bincount: masked vectors have −1, and a quantizer without a table can have 2⁶² codes.
        counts = indices[indices >= 0].unique(return_counts=True)[1]
        values = host_values(counts.sort(descending=True).values) or []
        return bar_chart_svg(values, "vectors per used code, sorted by use")
