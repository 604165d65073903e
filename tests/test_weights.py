"""Pretrained weights: absent with the reason, refused when altered; networks built from a checked file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vqlab import InputError
from vqlab.metrics import pretrained
from vqlab.metrics.weights import INCEPTION, LPIPS, VGG16, Weights, fetch, load


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy at a closed port of this machine stands for no network: the download is really tried and refused."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def published(tmp_path: Path, tensors: dict[str, torch.Tensor], like: Weights = LPIPS) -> Weights:
    """A file on this machine in the place of a published one."""
    source = tmp_path / "published.pth"
    torch.save(tensors, source)
    return replace(like, url=source.as_uri(), sha256=hashlib.sha256(source.read_bytes()).hexdigest())


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("build", [pretrained.inception, pretrained.vgg_loss, pretrained.lpips_loss])
def test_without_network_the_reason_names_the_file_and_the_folder(build: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not be downloaded.*VQLAB_CACHE") as told:
        build()  # type: ignore[operator]
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "cache" / "weights").iterdir())


def test_a_file_is_downloaded_once(tmp_path: Path) -> None:
    known = published(tmp_path, {"a": torch.arange(3)})
    assert torch.equal(load(known)["a"], torch.arange(3))
    (tmp_path / "published.pth").unlink()
    assert torch.equal(load(known)["a"], torch.arange(3))


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:50] + b"x" + b[51:]], ids=["cut", "altered"])
def test_a_file_cut_short_or_altered_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    known = published(tmp_path, {"a": torch.arange(300)})
    path = fetch(known)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(InputError, match=r"lpips_vgg\.pth: cut short or altered"):
        load(known)


def test_the_pinned_hash_of_the_real_files_refuses_another_file(tmp_path: Path) -> None:
    for known in (INCEPTION, VGG16, LPIPS):
        known.path.parent.mkdir(parents=True, exist_ok=True)
        known.path.write_bytes(b"not the weights")
        with pytest.raises(InputError, match="SHA-256"):
            load(known)


def test_inception_takes_its_weights_from_the_checked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the published shapes, hashed in the place of the known ones, then piq's network on them."""
    from pytorch_fid.inception import fid_inception_v3

    monkeypatch.setattr("pytorch_fid.inception.load_state_dict_from_url", lambda *_, **__: own.state_dict())
    own = bare_inception()
    monkeypatch.setattr(pretrained, "INCEPTION", published(tmp_path, own.state_dict(), INCEPTION))
    assert fid_inception_v3().Mixed_7c.branch1x1.conv.weight.equal(own.Mixed_7c.branch1x1.conv.weight)
    features = pretrained.inception()(torch.rand(2, 3, 32, 32))[0]
    assert features.shape == (2, 2048, 1, 1)
    assert features.isfinite().all()


def bare_inception() -> torch.nn.Module:
    from pytorch_fid import inception as home

    network = home._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = (
        home.FIDInceptionA(*sizes) for sizes in ((192, 32), (256, 64), (288, 64))
    )
    network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e = (
        home.FIDInceptionC(768, channels_7x7=channels) for channels in (128, 160, 160, 192)
    )
    network.Mixed_7b, network.Mixed_7c = home.FIDInceptionE_1(1280), home.FIDInceptionE_2(2048)
    return network
