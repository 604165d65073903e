"""Text and HTML of the layer, its output and the probe: correct values, escaped names, and no device needed."""

from __future__ import annotations

import math
import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vqlab
from vqlab import QuantizerOutput, VectorQuantizer
from vqlab.probe import Probe
from vqlab.quantize.display import bar_chart_svg, summary_html

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<img src=x onerror=alert(1)>&\"'"


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def card(html: str) -> tuple[str, dict[str, str]]:
    """Title and numbers of a card, which must be well-formed."""
    root = ElementTree.fromstring(html)
    rows = {"".join(row[0].itertext()): "".join(row[1].itertext()) for row in root.iter("tr")}
    return root[0].text or "", rows


def bar_heights(html: str) -> list[float]:
    return [float(bar.get("height", "nan")) for bar in ElementTree.fromstring(html).iter(f"{SVG}rect")]


# The HTML card.


def test_a_card_has_title_numbers_and_picture() -> None:
    html = summary_html("Run", {"MSE": "0.1", "PSNR": "20 dB"}, bar_chart_svg([1, 2], "counts"))
    assert card(html) == ("Run", {"MSE": "0.1", "PSNR": "20 dB"})
    assert len(bar_heights(html)) == 2
    assert card(summary_html("empty", {})) == ("empty", {})


def test_text_is_escaped() -> None:
    html = summary_html(HOSTILE, {HOSTILE: HOSTILE}, bar_chart_svg([1], HOSTILE))
    assert "<img" not in html
    assert card(html) == (HOSTILE, {HOSTILE: HOSTILE})
    assert ElementTree.fromstring(html).find(f".//{SVG}title").text == HOSTILE


def test_text_and_background_have_the_colours_of_the_page() -> None:
    html = summary_html("title", {"name": "value"}, bar_chart_svg([1], "caption"))
    colours = re.findall(r'(?:[^-]color|background):([^;"]+)', html)
    assert set(colours) <= {"inherit", "transparent"}
    assert {text.get("fill") for text in ElementTree.fromstring(html).iter(f"{SVG}text")} == {"currentColor"}
    assert "<style" not in html
    assert "<script" not in html


# The bar chart.


def test_bars_are_proportional_to_the_values_and_the_largest_is_labelled() -> None:
    svg = bar_chart_svg([3, 1, 0, 1.5], "tokens per code")
    heights = bar_heights(svg)
    assert [height / heights[0] for height in heights] == pytest.approx([1, 1 / 3, 0, 1 / 2], abs=1e-3)
    root = ElementTree.fromstring(svg)
    assert root.find(f"{SVG}title").text == "tokens per code"
    assert [text.text for text in root.iter(f"{SVG}text")] == ["3", "tokens per code"]
    assert root.get("role") == "img"


def test_the_label_of_the_largest_bar_has_no_exponent_below_a_billion() -> None:
    for value, label in {1012.4: "1,012", 999.9: "1,000", 0.12345: "0.123", 3e12: "3e+12"}.items():
        root = ElementTree.fromstring(bar_chart_svg([1e-9, value], "tokens per code"))
        assert next(root.iter(f"{SVG}text")).text == label


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 1000, 65_536])
def test_many_values_are_pooled_to_at_most_64_bars(count: int) -> None:
    values = np.random.default_rng(0).random(count)
    svg = bar_chart_svg(values.tolist(), "values")
    group = math.ceil(count / 64)
    means = [values[start : start + group].mean() for start in range(0, count, group)]
    heights = np.array(bar_heights(svg))
    assert len(heights) == len(means) <= 64
    np.testing.assert_allclose(heights / heights.max(), np.array(means) / max(means), atol=1e-3)
    title = ElementTree.fromstring(svg).find(f"{SVG}title").text
    assert (f"each bar is the mean of {group} values" in title) == (count > 64)


def test_values_that_cannot_be_drawn_are_drawn_as_0() -> None:
    assert bar_heights(bar_chart_svg([math.nan, math.inf, -1, 2], "values"))[:3] == [0, 0, 0]
    assert bar_heights(bar_chart_svg([0, 0], "values")) == [0, 0]
    assert "values: no values" in bar_chart_svg([], "values")


def test_a_long_caption_is_wrapped() -> None:
    lines = [text.text for text in ElementTree.fromstring(bar_chart_svg([], "word " * 40)).iter(f"{SVG}text")]
    assert len(lines) > 2
    assert max(map(len, lines)) <= 56


# The layer.


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"transport": "nsvq", "seed": 5},
        {"assignment": "gumbel", "update": "gradient", "transport": "straight_through", "hard": False},
        {"distance": "cosine", "init": "normal", "restart_every": 0, "restart_share": 0.5, "code_dim": 3},
        {"beta": 1.0, "decay": 0.9, "channel_dim": -1, "temperature": 0.5},
    ],
)
def test_the_text_of_a_layer_names_every_argument_that_is_not_its_default(arguments: dict[str, object]) -> None:
    layer = VectorQuantizer(16, 8, **arguments)
    for name, value in {"num_codes": 16, "dim": 8, "transport": layer.transport, **arguments}.items():
        assert f"{name}={value!r}" in repr(layer)
    same = eval(f"VectorQuantizer({layer.extra_repr()})")
    assert same._arguments() == layer._arguments()
    assert len(layer.extra_repr().split(", ")) == len({"num_codes", "dim", "transport", *arguments})


def test_the_card_of_a_layer_has_its_shape_and_its_usage() -> None:
    layer = VectorQuantizer(200, 8, code_dim=4, init="normal", restart_every=10, transport="rodrigues")
    for _ in range(3):
        layer(vectors(4, 8, 5, 5))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    title, numbers = card(layer._repr_html_())
    assert title == "VectorQuantizer: 200 codes × 4, transport rodrigues, update ema"
    book = layer.book
    used = int((book.recent > 0).sum())
    assert 0 < used < 200
    shares = book.counts / book.counts.sum()
    perplexity = float(torch.exp(-(shares * shares.log()).sum()))
    assert numbers["codes used since the last restart check"] == f"{used} of 200 (300 vectors)"
    assert float(numbers["perplexity of the EMA counts"]) == pytest.approx(perplexity, rel=1e-3)
    assert float(numbers["mean norm of the codes"]) == pytest.approx(float(book.codes.norm(dim=1).mean()), rel=1e-3)
    assert numbers["training steps"] == "3"
    heights = bar_heights(layer._repr_html_())
    assert heights == sorted(heights, reverse=True)
    pooled = shares.sort(descending=True).values.split(4)
    assert len(heights) == len(pooled) == 50
    assert heights[-1] / heights[0] == pytest.approx(float(pooled[-1].mean() / pooled[0].mean()), abs=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_the_card_after_a_restart_check_and_without_restarts() -> None:
    layer = VectorQuantizer(4, 8, init="normal", restart_every=1)
    layer(vectors(2, 8, 3, 3))
    assert card(layer._repr_html_())[1]["codes used since the last restart check"] == "0 of 4 (0 vectors)"
    layer = VectorQuantizer(4, 8, init="normal", restart_every=0, update="gradient")
    layer(vectors(2, 8, 3, 3)).loss.backward()
    assert "(18 vectors)" in card(layer._repr_html_())[1]["codes used since the first training step"]


@pytest.mark.parametrize(
    ("init", "state"),
    [
        ("kmeans", "not initialised; the first training batch sets the codes (init='kmeans')"),
        ("normal", "no training step yet; codes from init='normal'"),
    ],
)
def test_the_card_before_the_first_step(init: str, state: str) -> None:
    layer = VectorQuantizer(16, 8, init=init)
    layer(vectors(0, 8, 3, 3))
    layer.eval()(vectors(2, 8, 3, 3))
    assert card(layer._repr_html_())[1] == {"state": state}
    assert "<svg" not in layer._repr_html_()


def test_a_layer_on_the_meta_device_has_text_and_card() -> None:
    layer = VectorQuantizer(16, 8).to("meta")
    assert "num_codes=16" in repr(layer)
    assert "values on meta are not read" in card(layer._repr_html_())[1]["state"]


def test_names_of_classes_and_transports_are_escaped() -> None:
    layer = type(HOSTILE, (VectorQuantizer,), {})(16, 8)
    layer.transport = HOSTILE
    assert card(layer._repr_html_())[0] == f"{HOSTILE}: 16 codes × 8, transport {HOSTILE}, update ema"
    probe = Probe(type(HOSTILE, (nn.Identity,), {})())
    assert card(probe._repr_html_())[0] == f"Probe of {HOSTILE}"
    values = (torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.zeros(()), {})
    output = type(HOSTILE, (QuantizerOutput,), {})(*values)
    assert card(output._repr_html_())[0] == HOSTILE
    assert not any("<img" in html for html in (layer._repr_html_(), probe._repr_html_(), output._repr_html_()))


# The output of the layer.


def test_the_text_of_an_output_is_one_line_with_shapes_and_values() -> None:
    out = VectorQuantizer(16, 8)(vectors(2, 8, 4, 3).requires_grad_())
    loss, perplexity = float(out.loss.detach()), float(out.stats["perplexity"])
    expected = f"z_q=(2, 8, 4, 3), indices=(2, 4, 3), loss={loss:.4g}, perplexity={perplexity:.4g}"
    assert repr(out) == f"QuantizerOutput({expected})"
    assert out.z_q.grad_fn is not None


def test_the_card_of_an_output_has_its_values_and_its_usage() -> None:
    out = VectorQuantizer(16, 8)(vectors(2, 8, 4, 3).requires_grad_())
    title, numbers = card(out._repr_html_())
    assert title == "QuantizerOutput"
    assert numbers["z_q"] == "(2, 8, 4, 3), torch.float32"
    assert numbers["indices"] == "(2, 4, 3)"
    assert numbers["window of the numbers"] == "this batch, 24 vectors"
    for name in ("perplexity", "utilisation", "relative_error"):
        assert float(numbers[name]) == pytest.approx(float(out.stats[name]), rel=1e-3)
    counts = sorted(out.indices.unique(return_counts=True)[1].tolist(), reverse=True)
    heights = bar_heights(out._repr_html_())
    assert [height / heights[0] for height in heights] == pytest.approx([c / counts[0] for c in counts], abs=1e-3)


def test_an_output_without_statistics_vectors_or_values() -> None:
    bare = QuantizerOutput(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.tensor(0.5), {})
    assert repr(bare) == "QuantizerOutput(z_q=(2, 3), indices=(2,), loss=0.5)"
    assert card(bare._repr_html_())[1]["loss"] == "0.5"
    empty = VectorQuantizer(4, 3, init="normal", channel_dim=-1)(torch.zeros(0, 3))
    assert repr(empty).startswith("QuantizerOutput(z_q=(0, 3), indices=(0,), loss=0")
    assert "no values" in empty._repr_html_()
    meta = QuantizerOutput(
        torch.zeros(2, 3, device="meta"), torch.zeros(2, device="meta"), torch.zeros((), device="meta"), {}
    )
    assert repr(meta) == "QuantizerOutput(z_q=(2, 3), indices=(2,), loss=(on meta))"
    assert card(meta._repr_html_())[1]["loss"] == "(on meta)"


def test_an_output_inside_vmap_has_text_and_card() -> None:
    texts = []

    def describe(loss: Tensor) -> Tensor:
        out = QuantizerOutput(loss.expand(2, 3), torch.zeros(2, dtype=torch.int64), loss, {})
        texts.append(repr(out) + out._repr_html_())
        return loss

    torch.func.vmap(describe)(torch.zeros(3))
    assert "loss=(no value)" in texts[0]


# The probe.


def recorded(passes: int) -> Probe:
    layer = VectorQuantizer(16, 8, init="normal", transport="rotation")
    with vqlab.probe(layer) as probe:
        for _ in range(passes):
            layer(vectors(2, 8, 4, 4).requires_grad_()).z_q.sin().sum().backward()
    return probe


def test_the_text_of_a_probe_counts_tokens_and_passes() -> None:
    assert repr(recorded(0)) == "Probe(VectorQuantizer, 0 tokens, 0 passes)"
    assert repr(recorded(1)) == "Probe(VectorQuantizer, 32 tokens, 1 pass)"
    assert repr(recorded(3)) == "Probe(VectorQuantizer, 96 tokens, 3 passes)"


@pytest.mark.parametrize("passes", [1, 3])
def test_the_card_of_a_probe_has_the_medians_of_its_summary(passes: int) -> None:
    probe = recorded(passes)
    title, numbers = card(probe._repr_html_())
    medians = probe.summary()["median"]
    assert title == "Probe of VectorQuantizer"
    assert numbers["tokens"] == "32 in 1 pass" if passes == 1 else "96 in 3 passes"
    assert float(numbers["median angle of the gradients"].rstrip("°")) == pytest.approx(
        medians["angle_gradients"], rel=1e-3
    )
    assert float(numbers["median ratio of gradient lengths"]) == pytest.approx(medians["length_ratio"], rel=1e-3)
    assert float(numbers["median λ"]) == pytest.approx(medians["rescale"], rel=1e-3)
    counts = np.histogram(probe.table()["angle_gradients"], bins=60, range=(0, 180))[0]
    heights = np.array(bar_heights(probe._repr_html_()))
    np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=1e-3)


def test_the_card_of_a_probe_without_tokens_or_gradients() -> None:
    assert card(recorded(0)._repr_html_())[1]["tokens"].startswith("0; run forward and backward")
    layer = VectorQuantizer(16, 8, init="normal").eval()
    with vqlab.probe(layer) as probe, torch.no_grad():
        layer(vectors(1, 8, 3, 3))
    assert card(probe._repr_html_())[1]["median angle of the gradients"] == "nan°"
    assert "no values" in unescape(probe._repr_html_())


# Accelerators.


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_text_and_cards_do_not_synchronise() -> None:
    layer = VectorQuantizer(16, 8).cuda()
    out = layer(vectors(2, 8, 4, 4).cuda())
    torch.cuda.set_sync_debug_mode("error")
    try:
        texts = [repr(layer), layer._repr_html_(), repr(out), out._repr_html_()]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert "values on cuda:0 are not read" in texts[1]
    assert "loss=(on cuda:0)" in texts[2]
