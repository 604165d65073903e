"""The codebook rules of publications; each module registers its rule when it is imported."""

import vqlab.quantize.rules.anchors  # noqa: F401
import vqlab.quantize.rules.index_backpropagation  # noqa: F401
import vqlab.quantize.rules.learned_variance  # noqa: F401
import vqlab.quantize.rules.region  # noqa: F401
import vqlab.quantize.rules.sinkhorn  # noqa: F401
import vqlab.quantize.rules.wasserstein  # noqa: F401
