"""The layer in other people's trainings: what PyTorch's tools around a module need of it."""

from __future__ import annotations

import copy
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import vqlab
from vqlab import InputError, VectorQuantizer
from vqlab.quantize import search, transports

BAD = (float("nan"), float("inf"), -float("inf"), 1e30, 3e38)


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def state(layer: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in layer.state_dict().items()}


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    for (name, value), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name


# Rows that are not finite, and masked rows.


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "arguments", [{}, {"init": "data"}, {"update": "gradient"}, {"code_dim": 4}, {"distance": "cosine"}]
)
def test_rows_that_are_not_finite_leave_no_trace_in_the_codebook(bad: float, arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = VectorQuantizer(16, 8, channel_dim=-1, restart_every=2, **arguments)
    clean = copy.deepcopy(layer)
    for seed in range(6):
        x = vectors(256, 8, seed=seed)
        spoiled = x.clone()
        spoiled[[3, 70]] = bad
        out = layer(spoiled)
        assert out.stats["non_finite"] == 2
        assert 1 <= out.stats["perplexity"] <= 16
        assert all(value.isfinite() for value in out.stats.values())
        # The same step with the bad rows masked out: the codebook cannot tell the difference.
        mask = torch.ones(256, dtype=torch.bool)
        mask[[3, 70]] = False
        clean(torch.where(mask[:, None], x, 0), mask=mask)
        assert_same_state(layer, clean)


def test_a_batch_without_a_finite_row_changes_nothing_but_the_step() -> None:
    layer = VectorQuantizer(16, 8, channel_dim=-1, restart_every=1)
    layer(vectors(256, 8))
    before = state(layer)
    layer(torch.full((256, 8), float("nan")))
    after = state(layer)
    assert after.pop("book.step") == before.pop("book.step") + 1
    before["book.recent"].zero_()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_padding_counts_nowhere() -> None:
    torch.manual_seed(0)
    # Without restarts, whose rows are drawn by their place in the batch.
    layer = VectorQuantizer(8, 8, channel_dim=-1, code_dim=4, restart_every=0)
    packed = copy.deepcopy(layer)
    lengths = torch.tensor([5, 12, 1, 9])
    mask = torch.arange(12) < lengths[:, None]
    for seed in range(5):
        x = vectors(4, 12, 8, seed=seed)
        padded = torch.where(mask[..., None], x, 7.0).requires_grad_()
        rows = x[mask].requires_grad_()
        out, expected = layer(padded, mask=mask), packed(rows)
        torch.testing.assert_close(out.z_q[mask], expected.z_q)
        assert torch.equal(out.indices[mask], expected.indices)
        assert (out.indices[~mask] == -1).all()
        assert (out.z_q[~mask] == 0).all()
        assert out.stats.keys() == expected.stats.keys()
        for name, value in out.stats.items():
            torch.testing.assert_close(value, expected.stats[name], msg=name)
        torch.testing.assert_close(out.loss, expected.loss)
        (out.z_q.square().sum() + out.loss).backward()
        (expected.z_q.square().sum() + expected.loss).backward()
        torch.testing.assert_close(padded.grad[mask], rows.grad)
        assert (padded.grad[~mask] == 0).all()
    torch.testing.assert_close(layer.codebook, packed.codebook)
    assert torch.equal(layer.eval().decode(out.indices)[~mask], torch.zeros(int((~mask).sum()), 8))


@pytest.mark.parametrize("mask", [torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 4)])
def test_a_mask_of_another_shape_or_dtype_is_refused(mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"mask: .* must be torch.bool of shape"):
        VectorQuantizer(4, 8, channel_dim=-1)(torch.zeros(2, 4, 8), mask=mask)


# Dtypes.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("code_dim", [None, 4])
def test_every_dtype_of_module_and_input_trains(dtype: torch.dtype, code_dim: int | None) -> None:
    for module_dtype in {torch.float32, dtype}:
        torch.manual_seed(0)
        layer = VectorQuantizer(16, 8, channel_dim=-1, code_dim=code_dim, restart_every=2).to(module_dtype)
        assert layer.codebook.dtype == torch.promote_types(module_dtype, torch.float32)
        for seed in range(4):
            x = vectors(256, 8, seed=seed).to(dtype).requires_grad_()
            out = layer(x)
            (out.z_q.square().mean() + out.loss.to(dtype)).backward()
            assert (out.z_q.dtype, x.grad.dtype) == (dtype, dtype)
            assert x.grad.isfinite().all()
        assert layer.book.sums.dtype == layer.codebook.dtype
        assert layer.codebook.isfinite().all()


def test_a_layer_in_bfloat16_chooses_the_codes_of_the_layer_in_float32() -> None:
    layer = VectorQuantizer(16, 8, channel_dim=-1)
    layer(vectors(256, 8))
    x = vectors(256, 8, seed=1).bfloat16()
    assert torch.equal(copy.deepcopy(layer).bfloat16().eval()(x).indices, layer.eval()(x.float()).indices)


def test_a_gradient_scaler_unscales_the_gradient_of_the_layer() -> None:
    encoder, layer = nn.Linear(8, 8), VectorQuantizer(16, 8, channel_dim=-1)
    layer(vectors(256, 8))
    layer.freeze()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.0)

    def gradient(scale: bool) -> Tensor:
        optimizer.zero_grad()
        out = layer(encoder(vectors(64, 8, seed=2)))
        loss = out.z_q.square().mean() + out.loss
        (scaler.scale(loss) if scale else loss).backward()
        if scale:
            scaler.unscale_(optimizer)
        return encoder.weight.grad.clone()

    torch.testing.assert_close(gradient(scale=True), gradient(scale=False), rtol=1e-4, atol=1e-7)


def test_the_default_dtype_and_device_are_respected() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        layer = VectorQuantizer(16, 8, code_dim=4, channel_dim=-1)
        out = layer(torch.randn(64, 8, requires_grad=True))
        out.z_q.sum().backward()
        assert out.z_q.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        layer = VectorQuantizer(16, 8, code_dim=4)
    assert all(value.is_meta for value in layer.state_dict().values())
    trained = VectorQuantizer(16, 8, code_dim=4)
    trained(vectors(2, 8, 8, 8))
    layer.to_empty(device="cpu").load_state_dict(trained.state_dict())
    x = vectors(2, 8, 8, 8, seed=1)
    assert torch.equal(layer(x).z_q, trained(x).z_q)
    assert_same_state(layer, trained)


# Graphs: checkpointing, second derivatives, copies.


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"transport": "nsvq"}, {"code_dim": 4}, {"update": "gradient"},
        {"update": "gradient", "assignment": "gumbel", "transport": "straight_through"},
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_activation_checkpointing_updates_once_and_gives_the_plain_gradient(
    reentrant: bool, arguments: dict[str, object]
) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8), VectorQuantizer(16, 8, channel_dim=-1, restart_every=1, **arguments))
    other = copy.deepcopy(plain)

    def block(model: nn.Sequential) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        def run(x: Tensor) -> tuple[Tensor, Tensor]:
            out = model(x)
            return out.z_q, out.loss

        return run

    for seed in range(4):
        x = vectors(256, 6, seed=seed)
        for model, repeated in ((plain, False), (other, True)):
            model.zero_grad()
            leaf = x.clone().requires_grad_()
            z_q, loss = checkpoint(block(model), leaf, use_reentrant=reentrant) if repeated else block(model)(leaf)
            (z_q.pow(3).mean() + loss).backward()
        for one, two in zip(plain.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=0)
        assert_same_state(plain, other)


def test_nested_checkpointing_updates_once() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8), VectorQuantizer(16, 8, channel_dim=-1))
    other = copy.deepcopy(plain)

    def inner(x: Tensor) -> Tensor:
        return other(x).z_q

    def outer(x: Tensor) -> Tensor:
        return checkpoint(inner, x, use_reentrant=False).pow(2)

    x = vectors(256, 6)
    plain(x).z_q.pow(2).mean().backward()
    checkpoint(outer, x, use_reentrant=False).mean().backward()
    torch.testing.assert_close(plain[0].weight.grad, other[0].weight.grad, rtol=0, atol=0)
    assert_same_state(plain, other)


def test_a_restart_does_not_change_the_backward_pass_of_its_step() -> None:
    arguments = {"assignment": "gumbel", "update": "gradient", "transport": "straight_through", "init": "normal"}
    gradients = []
    for restart_every in (0, 1):
        layer = VectorQuantizer(64, 8, channel_dim=-1, restart_every=restart_every, **arguments)
        with torch.no_grad():
            layer.codebook[8:] += 100
        z_e = vectors(256, 8).requires_grad_()
        out = layer(z_e)
        assert (out.stats["restarts"] > 0) == (restart_every == 1)
        (out.z_q.pow(3).mean() + out.loss).backward()
        gradients.append((z_e.grad, layer.codebook.grad))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["rotation", "rodrigues", "reflection", "rescale", "straight_through"])
def test_second_derivatives_are_those_of_the_written_out_formula(kind: str) -> None:
    g, e, q = (vectors(16, 5, seed=seed).double() for seed in range(3))
    # ∇ₑ is linear in g, so d/dg ‖∇ₑ‖² = 2 M Mᵀ g with the rows of M from unit vectors.
    units = torch.eye(5, dtype=torch.float64)
    matrices = torch.stack([vqlab.quantize.transport_gradient(unit.expand(16, 5), e, q, kind) for unit in units], dim=1)
    weight, leaf = g.clone().requires_grad_(), e.clone().requires_grad_()
    (first,) = torch.autograd.grad((vqlab.transport(leaf, q, kind) * weight).sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    torch.testing.assert_close(second, 2 * torch.einsum("nij,nkj,nk->ni", matrices, matrices, g))


def test_function_transforms_apply_to_transport_and_layer() -> None:
    e, q = vectors(7, 5).double(), vectors(7, 5, seed=1).double()
    jacobian = torch.func.jacrev(lambda row: vqlab.transport(row[None], q[:1])[0])(e[0])
    # The Jacobian of q = λRe is λR: it maps e to q and keeps angles.
    torch.testing.assert_close(jacobian @ e[0], q[0])
    scale = q[0].norm() / e[0].norm()
    torch.testing.assert_close(jacobian @ jacobian.T, scale**2 * torch.eye(5, dtype=torch.float64))
    gradients = torch.func.vmap(torch.func.grad(lambda row, code: vqlab.transport(row[None], code[None]).pow(2).sum()))
    torch.testing.assert_close(gradients(e, q), vqlab.quantize.transport_gradient(2 * q, e, q))
    layer = VectorQuantizer(16, 5, channel_dim=-1, init="normal").eval()
    codes = layer.codebook * 2
    out = torch.func.functional_call(layer, {"book.codes": codes}, (e.float(),))
    assert torch.equal(out.z_q, codes[torch.cdist(e.float(), codes).argmin(dim=1)])


def test_a_layer_is_copied_inside_a_graph_and_saved_whole() -> None:
    layer = VectorQuantizer(16, 8, channel_dim=-1, restart_every=2)
    out = layer(vectors(256, 8).requires_grad_())
    copied = copy.deepcopy(layer)
    out.z_q.sum().backward()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (copied, loaded):
        for seed in range(1, 5):
            x = vectors(256, 8, seed=seed)
            original = copy.deepcopy(layer) if seed == 1 else original
            original(x)
            other(x)
        assert_same_state(original, other)


def test_a_layer_whose_buffers_are_written_from_outside_goes_on_from_them() -> None:
    layer, other = (VectorQuantizer(16, 8, channel_dim=-1, restart_every=3, seed=1) for _ in range(2))
    for seed in range(5):
        layer(vectors(256, 8, seed=seed))
    other(vectors(256, 8))
    with torch.no_grad():
        for written, value in zip(other.buffers(), layer.buffers(), strict=True):
            written.copy_(value)
    for seed in range(5, 9):
        layer(vectors(256, 8, seed=seed))
        other(vectors(256, 8, seed=seed))
    assert_same_state(layer, other)


# Layouts and outputs.


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("code_dim", [None, 4])
def test_outputs_and_gradients_have_the_memory_format_of_the_input(
    layout: torch.memory_format, code_dim: int | None
) -> None:
    layer = VectorQuantizer(16, 8, code_dim=code_dim)
    z_e = vectors(2, 8, 4, 5).contiguous(memory_format=layout).requires_grad_()
    seen: list[Tensor] = []
    inside = z_e * 1
    inside.register_hook(seen.append)
    out = layer(inside)
    out.z_q.sum().backward()
    assert out.z_q.is_contiguous(memory_format=layout)
    assert seen[0].is_contiguous(memory_format=layout)
    assert layer.decode(out.indices).is_contiguous()
    if layout == torch.contiguous_format:
        assert out.z_q.view(2, -1).shape == (2, 160)


@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (3, 8, 1), (2, 8, 2, 2, 2)])
@pytest.mark.parametrize("num_codes", [1, 3, 64])
def test_any_number_of_tokens_and_codes_trains(shape: tuple[int, ...], num_codes: int) -> None:
    layer = VectorQuantizer(num_codes, 8, restart_every=1)
    for seed in range(3):
        z_e = vectors(*shape, seed=seed).requires_grad_()
        out = layer(z_e)
        (out.z_q.sum() + out.loss).backward()
        assert out.z_q.shape == shape
        assert z_e.grad.isfinite().all()
    assert layer.codebook.isfinite().all()


def test_the_output_unpacks_and_is_a_pytree() -> None:
    out = VectorQuantizer(16, 8)(vectors(2, 8, 4, 4))
    z_q, indices, loss, stats = out
    assert all(one is other for one, other in zip((z_q, indices, loss, stats), out, strict=True))
    assert (z_q.shape, indices.shape, loss.shape) == ((2, 8, 4, 4), (2, 4, 4), ())
    leaves, structure = torch.utils._pytree.tree_flatten(out)
    assert len(leaves) == 3 + len(stats)
    rebuilt = torch.utils._pytree.tree_unflatten(leaves, structure)
    assert type(rebuilt) is vqlab.QuantizerOutput


# Freezing, and steps without a wait for the device.


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("how", [lambda layer: layer.freeze(), lambda layer: layer.requires_grad_(False)])
def test_freezing_stops_every_change_and_thawing_goes_on(update: str, how: Callable[[VectorQuantizer], object]) -> None:
    layer = VectorQuantizer(16, 8, channel_dim=-1, update=update, restart_every=1)
    layer(vectors(256, 8))
    how(layer)
    before = state(layer)
    z_e = vectors(256, 8, seed=1).requires_grad_()
    out = layer.train()(z_e)
    out.z_q.sum().backward()
    assert (z_e.grad != 0).any()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    layer.requires_grad_(True)
    layer(vectors(256, 8, seed=2))
    assert not torch.equal(layer.book.counts, before["book.counts"])


WAITS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "equal", "unique")


@contextmanager
def no_wait_for_the_device() -> Iterator[None]:
    """Refuse every operation that reads a value of a tensor on the host, or whose shape depends on values."""

    class Refuse(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            name = func.overloadpacket.__name__
            indexed_by_mask = name in ("index", "index_put", "index_put_") and any(
                index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
            )
            assert name not in WAITS, name
            assert not indexed_by_mask, name
            return func(*args, **(kwargs or {}))

    with Refuse():
        yield


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"update": "gradient"}, {"code_dim": 4}, {"distance": "cosine"}, {"transport": "diveq"},
        {"update": "gradient", "assignment": "gumbel", "transport": "straight_through"},
    ],
)  # fmt: skip
def test_a_step_reads_no_value_of_the_device(arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    # As on an accelerator: only where a CPU can read its own memory, values are looked at to save time.
    for module in (search, transports):
        monkeypatch.setattr(module, "reads_are_free", lambda tensor: False)
    layer = VectorQuantizer(16, 8, channel_dim=-1, restart_every=2, **arguments)
    layer(vectors(256, 8))
    with no_wait_for_the_device():
        for seed in range(1, 5):
            z_e = vectors(256, 8, seed=seed).requires_grad_()
            mask = torch.arange(256) < 200
            out = layer(z_e, mask=mask if seed > 2 else None)
            (out.z_q.sum() + out.loss).backward()


# Compilers.


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a file of this folder in a process of its own: compilers cannot follow the tests' checks of annotations."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_the_fused_kernels_give_what_float64_gives() -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    done = run_script("triton_interpreter.py")
    assert done.stdout.split() == ["equal", "same"] * 5


@pytest.mark.slow  # a minute of C++ compilations
@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_inductor_reads_the_codes_before_their_update() -> None:
    done = run_script("inductor_programs.py", "cpu")
    assert done.stdout.split() == ["compiled"] * 3


def test_compiled_exported_and_traced_layers_work_as_the_layer() -> None:
    done = run_script("compiled_layers.py")
    words = [line for line in done.stdout.splitlines() if line in ("onnx", "compiled", "exported", "traced")]
    assert words == ["onnx"] * 2 + ["compiled"] * 7 + ["exported"] * 2 + ["traced"] * 2


@pytest.mark.slow  # half a minute of compilation
def test_compiled_layers_of_every_codebook_rule_work_as_the_layer() -> None:
    assert run_script("compiled_layers.py", "rules").stdout.split() == ["compiled"] * 5
