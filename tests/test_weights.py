"""Pretrained weights: refused if they cannot be downloaded or are altered; networks built from a verified file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import tiny
from torchvision.models.vgg import cfgs, make_layers

from vqlab import InputError, train
from vqlab.data.download import PublishedFile, fetch
from vqlab.metrics import pretrained
from vqlab.metrics.weights import INCEPTION, LPIPS, VGG16, load_weights


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))


def local_file(tmp_path: Path, tensors: dict[str, torch.Tensor], like: PublishedFile = LPIPS) -> PublishedFile:
    """A weights file on this machine in place of the published one."""
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "published.pth"
    torch.save(tensors, source)
    return replace(like, url=source.as_uri(), checksum=f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("build", [pretrained.inception, pretrained.vgg_loss, pretrained.lpips_loss])
def test_without_network_the_message_names_the_file_and_the_folder(build: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not be downloaded.*VQLAB_CACHE") as error:
        build()  # type: ignore[operator]
    assert "\n" not in str(error.value)
    assert all(path.suffix == ".lock" for path in (tmp_path / "cache" / "weights").iterdir())


def test_a_file_is_downloaded_once(tmp_path: Path) -> None:
    file = local_file(tmp_path, {"a": torch.arange(3)})
    assert torch.equal(load_weights(file)["a"], torch.arange(3))
    (tmp_path / "published.pth").unlink()
    assert torch.equal(load_weights(file)["a"], torch.arange(3))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-100], lambda b: b[:50] + b"x" + b[51:]], ids=["incomplete", "altered"]
)
def test_an_incomplete_or_altered_file_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    file = local_file(tmp_path, {"a": torch.arange(300)})
    path = fetch(file)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(InputError, match=r"lpips_vgg\.pth: incomplete or altered"):
        load_weights(file)


def test_other_content_than_the_published_one_is_refused(tmp_path: Path) -> None:
    for file in (INCEPTION, VGG16, LPIPS):
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(b"not the weights")
        with pytest.raises(InputError, match="SHA-256"):
            load_weights(file)


def test_inception_uses_the_weights_of_the_verified_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has random weights of the published shapes; the reference is pytorch-fid with the same weights."""
    from pytorch_fid.inception import fid_inception_v3

    monkeypatch.setattr("pytorch_fid.inception.load_state_dict_from_url", lambda *_, **__: expected.state_dict())
    expected = inception_without_weights()
    monkeypatch.setattr(pretrained, "INCEPTION", local_file(tmp_path, expected.state_dict(), INCEPTION))
    assert fid_inception_v3().Mixed_7c.branch1x1.conv.weight.equal(expected.Mixed_7c.branch1x1.conv.weight)
    features = pretrained.inception()(torch.rand(2, 3, 32, 32))[0]
    assert features.shape == (2, 2048, 1, 1)
    assert features.isfinite().all()


def test_fid_and_kid_are_columns_if_the_weights_are_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pretrained, "INCEPTION", local_file(tmp_path, inception_without_weights().state_dict(), INCEPTION)
    )
    run = train(tiny(**{"data.test_limit": 8}), tmp_path, "cpu")
    measured = run.evaluation("cpu", inception=True)
    assert measured["rfid"] > 0
    assert measured["rkid"] is not None
    assert measured["rfid_by"].endswith("bilinear resize to 299 px; 8 images, 8 of test")
    assert run.evaluation("cpu") == measured


def test_lpips_and_vgg_losses_equal_their_definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the published shapes; LPIPS as in equation 1 of its paper."""
    torch.manual_seed(0)
    network = make_layers(cfgs["D"], batch_norm=False)
    vgg_file = {f"features.{name}": value for name, value in network.state_dict().items()}
    layers = {f"lin{n}.model.1.weight": torch.rand(1, w, 1, 1) for n, w in enumerate((64, 128, 256, 512, 512))}
    monkeypatch.setattr(pretrained, "VGG16", local_file(tmp_path / "a", vgg_file, VGG16))
    monkeypatch.setattr(pretrained, "LPIPS", local_file(tmp_path / "b", layers, LPIPS))
    images = torch.rand(2, 2, 3, 32, 32)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    maps: list[list[torch.Tensor]] = [[], []]
    for side, x in enumerate((images - mean) / deviation):
        for index, layer in enumerate(network):
            x = layer(x)
            if index in (3, 8, 15, 22, 29):
                maps[side].append(x)
    vgg = sum((one - other).square().mean() for one, other in zip(maps[0][:3], maps[1][:3], strict=True))
    torch.testing.assert_close(pretrained.vgg_loss()(*images), vgg)
    units = [[x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in side] for side in maps]
    lpips = sum(
        (weight * (one - other).square()).sum(1).mean()
        for weight, one, other in zip(layers.values(), *units, strict=True)
    )
    torch.testing.assert_close(pretrained.lpips_loss()(*images), lpips)


def inception_without_weights() -> torch.nn.Module:
    from pytorch_fid import inception

    network = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = (
        inception.FIDInceptionA(*sizes) for sizes in ((192, 32), (256, 64), (288, 64))
    )
    network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e = (
        inception.FIDInceptionC(768, channels_7x7=channels) for channels in (128, 160, 160, 192)
    )
    network.Mixed_7b, network.Mixed_7c = inception.FIDInceptionE_1(1280), inception.FIDInceptionE_2(2048)
    return network
