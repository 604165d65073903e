"""Networks with pretrained weights: piq's architectures and losses with verified weights files."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vqlab.errors import InputError
from vqlab.metrics.weights import INCEPTION, LPIPS, VGG16, load_weights

_VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3")
_LPIPS_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def inception() -> nn.Module:
    """Build the Inception network of FID with the weights of pytorch-fid.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017.

    Returns:
        A module in eval mode that maps images in [0, 1], (B, C, H, W), to a list of one tensor of features,
        (B, 2048, 1, 1). It resizes the images to 299×299 pixels bilinearly.

    Raises:
        InputError: if the weights are not in the cache folder and cannot be downloaded, or are damaged.
    """
    from piq.feature_extractors import fid_inception

    class VerifiedInception(fid_inception.InceptionV3):  # type: ignore[misc]  # piq has no annotations
        """Network of piq with weights from the verified file; piq would download its own."""

        @staticmethod
        def fid_inception_v3() -> nn.Module:
            """Build torchvision's Inception with the changes for FID."""
            network = fid_inception.models.inception_v3(
                num_classes=1008, aux_logits=False, weights=None, init_weights=False
            )
            network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = (
                fid_inception.FIDInceptionA(channels, pool) for channels, pool in ((192, 32), (256, 64), (288, 64))
            )
            network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e = (
                fid_inception.FIDInceptionC(768, channels) for channels in (128, 160, 160, 192)
            )
            network.Mixed_7b = fid_inception.FIDInceptionE1(1280)
            network.Mixed_7c = fid_inception.FIDInceptionE2(2048)
            network.load_state_dict(load_weights(INCEPTION))
            return network

    return VerifiedInception().eval()


def vgg_loss() -> nn.Module:
    """Build Σ_l mean (φ_l(x) − φ_l(y))², where φ_l are VGG16's features after relu1_2, relu2_2 and relu3_3.

    Source: Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution, 2016.

    Returns:
        A module that maps two batches of images in [0, 1], (B, C, H, W), to a scalar.

    Raises:
        InputError: if the weights are not in the cache folder and cannot be downloaded, or are damaged.
    """
    return _content_loss(_VGG_LAYERS, [1.0 / channels for channels in (64, 128, 256)], normalize=False)


def lpips_loss() -> nn.Module:
    """Build LPIPS on VGG16: weighted squared differences of unit-normalised features of five layers.

    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, equation 1.

    Returns:
        A module that maps two batches of images in [0, 1], (B, C, H, W), to a scalar, the mean over the batch.

    Raises:
        InputError: if the weights are not in the cache folder and cannot be downloaded, or are damaged.
    """
    stored = load_weights(LPIPS)
    return _content_loss(_LPIPS_LAYERS, [stored[f"lin{n}.model.1.weight"] for n in range(5)], normalize=True)


def loss_availability() -> dict[str, str]:
    """Check which perceptual losses can be used on this machine; weights that are missing are downloaded.

    Returns:
        "its weights are available", or the reason why they are not, by field of the Config.
    """
    states = {}
    for name, build in (("loss.vgg", vgg_loss), ("loss.lpips", lpips_loss)):
        try:
            build()
            states[name] = "its weights are available"
        except InputError as error:
            states[name] = str(error)
    return states


def _content_loss(layers: tuple[str, ...], weights: list[Any], *, normalize: bool) -> nn.Module:
    """ContentLoss of piq on VGG16, with a weight per channel of each layer."""
    import piq
    from piq.perceptual import VGG16_LAYERS
    from torchvision.models.vgg import cfgs, make_layers

    network = make_layers(cfgs["D"], batch_norm=False)
    stored = {name: tensor for name, tensor in load_weights(VGG16).items() if name.startswith("features.")}
    network.load_state_dict({name.removeprefix("features."): tensor for name, tensor in stored.items()})
    for module in network:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return piq.ContentLoss(
        network, [VGG16_LAYERS[name] for name in layers],
        [torch.as_tensor(weight) for weight in weights], normalize_features=normalize,
    )  # fmt: skip
