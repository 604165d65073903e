"""Codebook rules: each against its written-out formula in float64, and one list of contract tests for all."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from command_processes import run_ranks
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from test_layer_in_training import assert_same_state, no_wait_for_the_device, state, vectors
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vqlab import Config, InputError, MultiHeadQuantizer, VectorQuantizer, train
from vqlab.analysis import rule_statistics
from vqlab.config import describe_fields
from vqlab.plots import rule_usage
from vqlab.quantize import CodebookRule, get_rule, register_rule, rule_names, search, transports
from vqlab.quantize.codebook_rules import _REGISTRY
from vqlab.quantize.rules import region
from vqlab.quantize.rules.anchors import Anchors
from vqlab.quantize.rules.sinkhorn import balanced_codes
from vqlab.quantize.rules.wasserstein import Wasserstein, batch_moments, gaussian_distance

RULES = rule_names()[1:]
K, C = 12, 4


def options(rule: str) -> dict[str, object]:
    """Options that the rule needs, with codes that are not filled from the batch."""
    needs = getattr(get_rule(rule), "needs", {})
    return {"init": "normal", **{name: value for name, (value, _) in needs.items() if value is not None}}


def layer(rule: str, **changes: object) -> VectorQuantizer:
    return VectorQuantizer(K, C, channel_dim=-1, **{"restart_every": 0, "rule": rule, **options(rule), **changes})


def step(quantizer: VectorQuantizer, z_e: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """A training step: z_q, the loss and the gradient of z_e."""
    leaf = z_e.clone().requires_grad_()
    out = quantizer(leaf, mask=mask)
    (out.z_q.pow(3).mean() + out.loss).backward()
    return out.z_q.detach(), out.loss.detach(), leaf.grad


def distances(e: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.linalg.norm(e[:, None] - codes, axis=2)


def double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy().copy()


# Formulas.


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_anchors_move_codes_by_their_usage(update: str) -> None:
    quantizer = layer("cvq", update=update, decay=0.9)
    plain = layer("none", update=update, decay=0.9)
    plain.load_state_dict({name: value for name, value in state(quantizer).items() if name != "rule.usage"})
    usage, shares = np.zeros(K), []
    for seed in range(3):
        e = vectors(40, C, seed=seed) + 2
        plain.book.codes.data.copy_(quantizer.codebook.detach())
        plain.book.sums.copy_(quantizer.book.sums)
        with torch.no_grad():
            counts = np.bincount(plain(e).indices, minlength=K)
            quantizer(e)
        usage = 0.9 * usage + 0.1 * counts / counts.sum()
        share = np.exp(-10 * K * usage / 0.1 - 1e-3)[:, None]
        anchors = double(e)[distances(double(e), double(plain.codebook)).argmin(axis=0)]
        np.testing.assert_allclose(double(quantizer.rule.usage), usage, rtol=1e-5)
        expected = (1 - share) * double(plain.codebook) + share * anchors
        np.testing.assert_allclose(double(quantizer.codebook), expected, rtol=1e-4, atol=1e-5)
        shares.append(share)
    assert np.max(shares) > 0.5
    assert np.min(shares) < 0.01


def test_the_next_moving_average_does_not_undo_an_anchor() -> None:
    quantizer = layer("cvq", init="uniform")
    e = vectors(64, C) + 20
    quantizer(e)
    moved = quantizer.codebook.clone()
    assert (moved > 15).any()
    quantizer.rule = None
    quantizer(e)
    assert (quantizer.codebook[moved[:, 0] > 15] > 15).all()


def test_targets_of_the_region_loss() -> None:
    quantizer = layer("region", beta=0.0)
    e = torch.cat([vectors(30, C) + 1, vectors(20, C, seed=1) + 2])
    plain = layer("none", update="gradient", beta=0.0)
    codes, rows = double(quantizer.codebook), double(e)
    counts = np.bincount(distances(rows, codes).argmin(axis=1), minlength=K)
    inactive = np.flatnonzero(counts == 0)
    assert len(inactive) >= 2
    means = {k: rows[distances(rows, codes).argmin(axis=1) == k].mean(axis=0) for k in np.flatnonzero(counts)}
    drawn: dict[int, list[np.ndarray]] = {}
    for k, mean in means.items():
        reach = math.ceil(counts[k] * len(inactive) / counts.sum())
        for j in inactive[np.argsort(distances(mean[None], codes[inactive])[0])[:reach]]:
            drawn.setdefault(j, []).append(mean)
    targets = {**means, **{j: np.mean(near, axis=0) for j, near in drawn.items()}}
    expected = np.mean([(codes[k] - target) ** 2 for k, target in targets.items()])
    loss = quantizer(e).loss - plain(e).loss
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    gradient = np.zeros_like(codes)
    for k, target in targets.items():
        gradient[k] = 2 * (codes[k] - target) / (len(targets) * C)
    # The loss of the plain layer is subtracted, so its gradient is that of the codebook term with the other sign.
    np.testing.assert_allclose(double(quantizer.codebook.grad + plain.codebook.grad), gradient, atol=1e-5)


def test_a_code_is_inactive_after_the_window_only() -> None:
    near, far = torch.zeros(8, C), torch.full((8, C), 50.0)
    quantizer = VectorQuantizer(
        2, C, channel_dim=-1, update="gradient", init="normal", restart_every=0, rule=region.Region(2, C, window=2)
    )
    quantizer.set_codes(torch.stack([near[0], far[0]]) + 0.1)
    moved = []
    for z_e in (far, near, near, near):
        quantizer.zero_grad()
        quantizer(z_e).loss.backward()
        moved.append(bool(quantizer.codebook.grad[1].abs().sum() > 1))
    assert moved == [False, False, False, True]


def test_the_distance_of_moments_is_that_of_the_queue_of_vectors() -> None:
    quantizer = layer("wasserstein", beta=0.0)
    quantizer.rule = Wasserstein(K, C, window=3)
    plain = layer("none", update="gradient", beta=0.0)
    batches = [vectors(30 + seed, C, seed=seed) * 2 + seed for seed in range(5)]
    codes = double(quantizer.codebook)
    for number, e in enumerate(batches):
        queue = double(torch.cat(batches[max(0, number - 2) : number + 1]))
        covariance, own = np.cov(queue.T), np.cov(codes.T)
        root = sqrtm(covariance)
        spread = np.trace(covariance + own - 2 * sqrtm(root @ own @ root).real)
        expected = math.sqrt(np.sum((queue.mean(0) - codes.mean(0)) ** 2) + spread)
        term = quantizer(e).loss - plain(e).loss
        assert term.item() == pytest.approx(0.5 * expected, rel=1e-3)


def test_the_gradient_of_the_distance_is_that_of_differences() -> None:
    codes, e = vectors(K, C).double().requires_grad_(), vectors(50, C, seed=1).double() + 1
    moments = batch_moments(e, torch.ones(50, dtype=torch.bool))
    assert torch.autograd.gradcheck(lambda codes: gaussian_distance(moments, codes), codes)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_sinkhorn_assigns_the_codes_of_the_published_iteration(distance: str) -> None:
    e, codes = vectors(60, C) + 1, vectors(K, C, seed=1)
    rows = torch.arange(60) < 50
    unit = (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)) if distance == "cosine" else (lambda x: x)
    cost = distances(unit(double(e)[:50]), unit(double(codes)))
    cost = (cost - cost.mean()) / (cost.std(ddof=1) + 1e-6)
    q = np.exp(-10 * (cost - cost.min()))
    q /= q.sum()
    for _ in range(5):
        q /= q.sum(axis=0, keepdims=True) * K
        q /= q.sum(axis=1, keepdims=True) * 50
    indices = balanced_codes(e, codes, rows, distance)
    assert np.array_equal(indices[:50].numpy(), q.argmax(axis=1))
    quantizer = layer("sinkhorn", distance=distance)
    quantizer.set_codes(codes)
    assert torch.equal(quantizer(e, mask=rows).indices[:50], indices[:50])
    assert not np.array_equal(q.argmax(axis=1), cost.argmin(axis=1))


def test_index_backpropagation_gives_the_published_gradients() -> None:
    quantizer = layer("ibq", beta=0.3).double()
    e = vectors(30, C).double()
    leaf, codes = e.clone().requires_grad_(), quantizer.codebook.detach().clone().requires_grad_()
    similarity = leaf @ codes.T - codes.square().sum(dim=1) / 2
    p = similarity.softmax(dim=1)
    hard = torch.nn.functional.one_hot(similarity.argmax(dim=1), K).double()
    z, q = (hard - p.detach() + p) @ codes, hard @ codes
    loss = (z - leaf).square().mean() + (q.detach() - leaf).square().mean() + 0.3 * (q - leaf.detach()).square().mean()
    (z.pow(3).mean() + loss).backward()
    z_q, found, gradient = step(quantizer, e)
    assert torch.equal(z_q, quantizer.codebook[torch.cdist(e, quantizer.codebook).argmin(dim=1)])
    torch.testing.assert_close(found, loss.detach())
    torch.testing.assert_close(gradient, leaf.grad)
    torch.testing.assert_close(quantizer.codebook.grad, codes.grad)
    assert (codes.grad.abs().sum(dim=1) > 0).all()


def test_learned_variance_gives_the_published_loss_and_gradients() -> None:
    quantizer = layer("sq_vae", temperature=0.7).double()
    e = vectors(30, C).double()
    uniform = quantizer.book.noise(torch.zeros(30, K).double(), uniform=True)
    leaf, codes = e.clone().requires_grad_(), quantizer.codebook.detach().clone().requires_grad_()
    log_variance = torch.tensor(math.log(C * 20 / 64), dtype=torch.float64, requires_grad=True)
    logits = -(leaf[:, None] - codes).square().sum(dim=2) / (2 * log_variance.exp())
    weights = ((logits - (-uniform.log()).log()) / 0.7).softmax(dim=1)
    z, p = weights @ codes, logits.softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1)
    loss = ((leaf - z).square().sum(dim=1) / (2 * log_variance.exp()) - entropy).mean() / C
    (z.pow(3).mean() + loss).backward()
    z_q, found, gradient = step(quantizer, e)
    torch.testing.assert_close(z_q, z.detach())
    torch.testing.assert_close(found, loss.detach())
    torch.testing.assert_close(gradient, leaf.grad)
    torch.testing.assert_close(quantizer.codebook.grad, codes.grad)
    torch.testing.assert_close(quantizer.rule.log_variance.grad, log_variance.grad)


# Contracts of every rule.


@pytest.mark.parametrize("rule", RULES)
def test_eval_mode_takes_the_nearest_code_and_changes_nothing(rule: str) -> None:
    quantizer, e = layer(rule), vectors(50, C)
    step(quantizer, e)
    before = state(quantizer.eval())
    out = quantizer(e)
    assert torch.equal(out.indices, torch.cdist(e.double(), quantizer.codebook.double()).argmin(dim=1))
    assert torch.equal(quantizer.decode(out.indices), out.z_q)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_are_masked_or_not_finite_take_no_part(rule: str) -> None:
    torch.manual_seed(0)
    one, other = layer(rule), layer(rule)
    e, mask = vectors(50, C), torch.arange(50) < 40
    for bad in (math.nan, math.inf, 1e30, 7.0):
        spoiled = torch.where(mask[:, None], e, bad)
        z_q, loss, gradient = step(one, spoiled, mask)
        *expected, expected_gradient = step(other, torch.where(mask[:, None], e, 0), mask)
        torch.testing.assert_close([z_q, loss], expected, rtol=0, atol=0)
        torch.testing.assert_close(gradient[:40], expected_gradient[:40], rtol=0, atol=0)
        assert_same_state(one, other)
    unmasked = torch.where(mask[:, None], e, math.nan)
    with torch.no_grad():
        one(unmasked), other(unmasked, mask=mask)
    assert_same_state(one, other)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_rule_trains_in_every_dtype_and_keeps_its_state_wide(rule: str, dtype: torch.dtype) -> None:
    quantizer = layer(rule).to(dtype)
    z_q, loss, gradient = step(quantizer, vectors(50, C).to(dtype))
    assert z_q.dtype == gradient.dtype == dtype
    assert loss.isfinite()
    assert gradient.isfinite().all()
    wide = {torch.float64 if dtype == torch.float64 else torch.float32, torch.int64, torch.bool}
    assert {value.dtype for value in quantizer.state_dict().values()} <= wide


@pytest.mark.parametrize("rule", RULES)
def test_a_stored_or_copied_layer_takes_the_same_next_step(rule: str) -> None:
    quantizer = layer(rule)
    for seed in range(3):
        step(quantizer, vectors(50, C, seed=seed))
    loaded = layer(rule, seed=0)
    loaded.load_state_dict(state(quantizer))
    copied = copy.deepcopy(quantizer)
    for one in (quantizer, loaded, copied):
        one.zero_grad()
    expected = step(quantizer, vectors(50, C, seed=3))
    for one in (loaded, copied):
        torch.testing.assert_close(step(one, vectors(50, C, seed=3)), expected, rtol=0, atol=0)
        assert_same_state(one, quantizer)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("num_codes", "rows"), [(1, 20), (K, 1), (K, 5), (1, 1), (K, 0)])
def test_few_vectors_and_one_code(rule: str, num_codes: int, rows: int) -> None:
    quantizer = VectorQuantizer(num_codes, C, channel_dim=-1, rule=rule, **options(rule))
    before = state(quantizer)
    for seed in range(2):
        z_q, loss, _ = step(quantizer, vectors(rows, C, seed=seed))
        assert z_q.isfinite().all()
        assert loss.isfinite()
    assert all(value.isfinite().all() for value in quantizer.state_dict().values())
    if not rows:
        assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_without_a_finite_row_leaves_codes_and_gradients_finite(rule: str) -> None:
    quantizer = layer(rule)
    step(quantizer, vectors(50, C))
    quantizer.zero_grad()
    before = quantizer.codebook.detach().clone()
    out = quantizer(torch.full((50, C), math.nan), mask=torch.zeros(50, dtype=torch.bool))
    out.loss.backward() if out.loss.requires_grad else None
    assert torch.equal(quantizer.codebook, before)
    assert all(p.grad is None or p.grad.isfinite().all() for p in quantizer.parameters())


@pytest.mark.parametrize("rule", RULES)
def test_a_frozen_layer_keeps_codes_and_state(rule: str) -> None:
    quantizer = layer(rule)
    step(quantizer, vectors(50, C))
    quantizer.freeze()
    before = state(quantizer)
    step(quantizer, vectors(50, C, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert not any(parameter.requires_grad for parameter in quantizer.parameters())
    quantizer.freeze(False)
    assert all(parameter.requires_grad for parameter in quantizer.parameters())


@pytest.mark.parametrize("rule", RULES)
def test_a_checkpointed_step_has_the_gradients_and_the_state_of_a_plain_one(rule: str) -> None:
    plain, repeated = layer(rule), layer(rule)
    for seed in range(3):
        one, other = (vectors(50, C, seed=seed).requires_grad_() for _ in range(2))
        out = plain(one)
        (out.z_q.pow(3).mean() + out.loss).backward()
        z_q, loss = checkpoint(lambda x: repeated(x)[::2], other, use_reentrant=False)
        (z_q.pow(3).mean() + loss).backward()
        torch.testing.assert_close(other.grad, one.grad, rtol=0, atol=0)
        assert_same_state(plain, repeated)


# Eigendecompositions wait for the device, as the docstring of the rule says.
@pytest.mark.parametrize("rule", RULES)
def test_a_step_reads_no_value_of_the_device(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (search, transports, region):
        monkeypatch.setattr(module, "reads_are_free", lambda tensor: False)
    quantizer = layer(rule)
    mask = torch.arange(50) < 40
    step(quantizer, vectors(50, C))
    with no_wait_for_the_device():
        for seed in range(1, 4):
            step(quantizer, vectors(50, C, seed=seed), mask if seed > 2 else None)


def test_the_region_targets_are_the_same_where_no_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, codes = torch.ones(K), vectors(K, C)
    arguments = codes, counts, vectors(K, C, seed=1), counts == 0
    expected = region.region_targets(*arguments)
    monkeypatch.setattr(region, "reads_are_free", lambda tensor: False)
    monkeypatch.setattr(region, "_BLOCK", 3 * K)
    torch.testing.assert_close(region.region_targets(*arguments), expected)


# What a rule does to a codebook that has collapsed.


@pytest.mark.parametrize(
    ("rule", "offset", "least"),
    [
        ("none", 3, 0), ("cvq", 3, 0.9), ("region", 3, 0.6), ("wasserstein", 3, 0.9), ("sinkhorn", 3, 0.5),
        ("none", 1.5, 0), ("ibq", 1.5, 0.35), ("sq_vae", 1.5, 0.28),
    ],
)  # fmt: skip
def test_a_rule_brings_codes_of_a_collapsed_codebook_into_use(rule: str, offset: float, least: float) -> None:
    (utilisation,) = rule_statistics([rule], offset)["utilisation"]
    assert utilisation >= least
    if rule == "none":
        assert utilisation < 0.25


def test_the_figure_has_a_bar_for_each_rule() -> None:
    table = pd.DataFrame({"utilisation": [0.25, 1.0], "perplexity": [3.0, 40.0]}, index=["none", "cvq"])
    axis = rule_usage(table).axes[0]
    assert [bar.get_width() for bar in axis.patches] == [0.25, 1.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["none", "cvq"]
    assert [text.get_text() for text in axis.texts] == ["perplexity 3", "perplexity 40"]


# Refusals and names.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "nothing"}, "rule='nothing': must be one of none, "),
        ({"rule": "region"}, "update='ema' with rule='region': .* use update='gradient'"),
        ({"rule": "wasserstein"}, "update='ema' with rule='wasserstein'"),
        ({"rule": "ibq", "update": "gradient"}, "transport='rotation' with rule='ibq': the softmax defines"),
        ({"rule": "sq_vae", "update": "gradient"}, "transport='rotation' with rule='sq_vae'"),
        (
            {"rule": "sq_vae", "update": "gradient", "transport": "straight_through", "distance": "cosine"},
            "distance='cosine' with rule='sq_vae'",
        ),
        (
            {"rule": "sinkhorn", "assignment": "gumbel", "update": "gradient", "transport": "straight_through"},
            "assignment='gumbel' with rule='sinkhorn'",
        ),
        ({"rule_weight": 1.0}, "rule_weight=1.0 with rule='none': there is no term"),
        ({"rule": "cvq", "rule_weight": 1.0}, "rule_weight=1.0 with rule='cvq'"),
    ],
)
def test_pairs_that_make_no_sense_are_refused_by_layer_and_config(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VectorQuantizer(8, 6, **arguments)
    config_message = message.replace("rule='nothing'", "quantizer.rule='nothing'")
    with pytest.raises(InputError, match=config_message):
        Config().replace(**{f"quantizer.{name}": value for name, value in arguments.items()})


def test_what_only_the_layer_knows_is_refused_there() -> None:
    with pytest.raises(InputError, match=r"codes_from=.* with rule='cvq'"):
        VectorQuantizer(8, 6, rule="cvq", codes_from=lambda codes: 2 * codes)
    with pytest.raises(InputError, match=r"use Anchors\(8, 6\)"):
        VectorQuantizer(8, 6, rule=Anchors(8, 5))
    with pytest.raises(InputError, match=r"rule_weight=-1\.0: must be at least 0"):
        layer("region", rule_weight=-1.0)
    with pytest.raises(InputError, match="stands for no rule"):
        register_rule("none")


def test_the_weight_scales_the_term_alone() -> None:
    e = vectors(50, C)
    losses = [layer("region", rule_weight=weight)(e).loss for weight in (0.0, 1.0, None, 3.0)]
    assert losses[1] == losses[2]
    torch.testing.assert_close(losses[3] - losses[0], 3 * (losses[1] - losses[0]))
    assert "rule='region', rule_weight=3.0" in repr(layer("region", rule_weight=3.0))


def test_a_rule_of_ones_own_is_a_class_and_a_decorator() -> None:
    @register_rule("towards_zero", source="an example")
    class TowardsZero(CodebookRule):
        weight = 0.5

        def loss(self, step: object, batch: object) -> Tensor:
            return step.codes.square().mean()

    try:
        arguments = {"update": "gradient", "init": "normal", "channel_dim": -1}
        one, plain = VectorQuantizer(K, C, rule="towards_zero", **arguments), VectorQuantizer(K, C, **arguments)
        e = vectors(50, C)
        torch.testing.assert_close(one(e).loss, plain(e).loss + 0.5 * plain.codebook.square().mean())
        assert Config().replace(**{"quantizer.rule": "towards_zero"}).quantizer.rule == "towards_zero"
        assert "towards_zero" in describe_fields("quantizer.rule")[0].allowed
    finally:
        del _REGISTRY["towards_zero"]


def test_a_config_without_a_rule_keeps_its_id() -> None:
    assert Config().replace(**{"quantizer.rule": "none", "quantizer.rule_weight": None}).id == Config().id
    assert Config().replace(**{"quantizer.rule": "cvq"}).id != Config().id


@pytest.mark.parametrize("shared", [True, False])
def test_each_head_has_the_rule(shared: bool) -> None:
    quantizer = MultiHeadQuantizer(8, 6, 2, shared=shared, rule="cvq")
    quantizer(vectors(20, 6))
    assert all(part.rule.usage.sum() > 0 for part in quantizer.quantizers)


# Ranks.


def _train_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.set_num_threads(1)
    torch.save({rule: _train_on(rule, rank) for rule in RULES}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def _train_on(rule: str, rank: int | None) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
    """State, gradient of the codes by the rule's term, and indices, after steps on a part of each batch or on all."""
    quantizer = layer(rule, beta=0.0)
    indices, gradient = [], torch.zeros(K, C)
    for seed in range(4):
        e = vectors(60, C, seed=seed) + seed / 2
        e = e if rank is None else e.split([20, 40])[rank]
        quantizer.zero_grad()
        out = quantizer(e)
        indices.append(out.indices)
        if rule in ("region", "wasserstein"):
            plain = VectorQuantizer(K, C, channel_dim=-1, init="normal", update="gradient", beta=0.0, restart_every=0)
            (out.loss - plain.eval()(e).loss).backward()
            codebook_term = (quantizer.codebook.detach()[out.indices] - e) * 2 / e.numel()
            own = torch.zeros(K, C).index_add_(0, out.indices, codebook_term)
            gradient = quantizer.codebook.grad - own
    return state(quantizer), gradient, indices


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_ranks_agree_with_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    run_ranks(_train_rank, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for rule in RULES:
        expected, gradient, indices = _train_on(rule, None)
        for name, value in expected.items():
            assert torch.equal(ranks[0][rule][0][name], ranks[1][rule][0][name]), (rule, name)
            if rule == "sq_vae":  # Its noise is drawn by the place in the batch of a rank.
                continue
            torch.testing.assert_close(ranks[0][rule][0][name], value, msg=f"{rule} {name}", rtol=1e-4, atol=1e-5)
        for rank in ranks:
            torch.testing.assert_close(rank[rule][1], gradient, rtol=1e-3, atol=1e-5)
        if rule != "sq_vae":
            for number, joined in enumerate(indices):
                parts = torch.cat([rank[rule][2][number] for rank in ranks])
                assert torch.equal(parts, joined), rule


# Runs.


def _config(rule: str) -> Config:
    changes = {
        "model.hidden": 16, "model.residual_hidden": 8, "quantizer.num_codes": 32, "quantizer.dim": 8,
        "quantizer.code_dim": 4, "data.train_limit": 48, "data.test_limit": 16, "optim.epochs": 2,
        "optim.batch_size": 8, "evaluation.checkpoint_every": 4, "quantizer.rule": rule,
        **{f"quantizer.{name}": value for name, value in options(rule).items()},
    }  # fmt: skip
    return Config.profile("quick", **changes)


@pytest.mark.parametrize("rule", RULES)
def test_a_run_trains_with_the_rule_and_a_resumed_one_has_the_same_weights(rule: str, tmp_path: Path) -> None:
    config = _config(rule)
    whole = train(config, tmp_path / "whole", "cpu")
    assert not train(config, tmp_path / "parts", "cpu", stop_after_steps=7).finished
    resumed = train(config, tmp_path / "parts", "cpu")
    one, other = (load_file(run.folder / "model.safetensors") for run in (whole, resumed))
    assert any(name.startswith("quantizer.rule.") for name in one) == (rule not in ("sinkhorn", "ibq"))
    for name, value in one.items():
        assert torch.equal(other[name], value), name
