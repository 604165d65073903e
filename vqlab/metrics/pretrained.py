"""Networks with pretrained weights, built by piq around files that were checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vqlab.metrics.weights import INCEPTION, LPIPS, VGG16, load

_VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3")
_LPIPS_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def inception() -> nn.Module:
    """piq's FID Inception: images in [0, 1], resized to 299 px bilinearly, to [(B, 2048, 1, 1)].

    Raises InputError where the weights cannot be had.
    """
    from piq.feature_extractors import fid_inception as home

    class Checked(home.InceptionV3):
        """piq's network; only the weights come from the checked file."""

        @staticmethod
        def fid_inception_v3() -> nn.Module:
            """The patched torchvision network with its weights."""
            network = home.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
            network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = (
                home.FIDInceptionA(channels, pool) for channels, pool in ((192, 32), (256, 64), (288, 64))
            )
            network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e = (
                home.FIDInceptionC(768, channels) for channels in (128, 160, 160, 192)
            )
            network.Mixed_7b, network.Mixed_7c = home.FIDInceptionE1(1280), home.FIDInceptionE2(2048)
            network.load_state_dict(load(INCEPTION))
            return network

    return Checked().eval()


def vgg_loss() -> nn.Module:
    """(x, y) -> mean squared difference of VGG16's features at three depths, summed, for images in [0, 1]."""
    return _content_loss(_VGG_LAYERS, [1.0 / width for width in (64, 128, 256)], normalize=False)


def lpips_loss() -> nn.Module:
    """(x, y) -> LPIPS (Zhang et al., The Unreasonable Effectiveness of Deep Features, 2018) on VGG16."""
    stored = load(LPIPS)
    return _content_loss(_LPIPS_LAYERS, [stored[f"lin{n}.model.1.weight"] for n in range(5)], normalize=True)


def _content_loss(layers: tuple[str, ...], weights: list[Any], *, normalize: bool) -> nn.Module:
    import piq
    from piq.perceptual import VGG16_LAYERS
    from torchvision.models.vgg import cfgs, make_layers

    network = make_layers(cfgs["D"], batch_norm=False)
    stored = {name: tensor for name, tensor in load(VGG16).items() if name.startswith("features.")}
    network.load_state_dict({name.removeprefix("features."): tensor for name, tensor in stored.items()})
    for module in network:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return piq.ContentLoss(
        network, [VGG16_LAYERS[name] for name in layers],
        [torch.as_tensor(weight) for weight in weights], normalize_features=normalize,
    )  # fmt: skip
