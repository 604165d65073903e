"""One small autoencoder trained by a plain loop, by accelerate and by Lightning; prints the losses of each.

Run with: python tests/training_loops.py
"""

from __future__ import annotations

import copy
import importlib.util

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vqlab import VectorQuantizer

EPOCHS = 3


class Autoencoder(nn.Module):
    """Patches of 8×8 pixels to 4×4 codes and back; ``forward`` returns the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 32, 4, 2, 1), nn.SiLU(), nn.Conv2d(32, 16, 3, 1, 1))
        self.quantizer = VectorQuantizer(64, 16, code_dim=8, restart_every=10)
        self.decoder = nn.Sequential(nn.Conv2d(16, 32, 3, 1, 1), nn.SiLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        quantized = self.quantizer(self.encoder(images))
        return nn.functional.mse_loss(self.decoder(quantized.z_q), images) + quantized.loss


def make_model() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder()


def batches() -> DataLoader[tuple[Tensor, ...]]:
    """Smooth pictures: random colours at 2×2, enlarged to 8×8."""
    corners = torch.rand(512, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(nn.functional.interpolate(corners, size=8, mode="bilinear")), batch_size=32)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=2e-3)


def plain_loop(model: Autoencoder) -> list[float]:
    optimizer, losses = make_optimizer(model), []
    for _ in range(EPOCHS):
        for (images,) in batches():
            loss = model(images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def accelerate_loop(model: Autoencoder) -> list[float]:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    prepared, optimizer, loader = accelerator.prepare(model, make_optimizer(model), batches())
    losses = []
    for _ in range(EPOCHS):
        for (images,) in loader:
            with accelerator.accumulate(prepared):
                loss = prepared(images)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(accelerator.gather(loss.detach()).mean().item())
    accelerator.unwrap_model(prepared)
    return losses


def lightning_loop(model: Autoencoder) -> list[float]:
    import lightning

    losses = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: list[Tensor], number: int) -> Tensor:
            loss = self.model(batch[0])
            losses.append(loss.item())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make_optimizer(self.model)

    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), batches())
    return losses


LOOPS = {"plain": plain_loop, "accelerate": accelerate_loop, "lightning": lightning_loop}


def available_loops() -> list[str]:
    return [name for name in LOOPS if name == "plain" or importlib.util.find_spec(name)]


if __name__ == "__main__":
    start = make_model()
    for name in available_loops():
        losses = LOOPS[name](copy.deepcopy(start))
        print(f"{name:10}: loss {losses[0]:.6f} at the first step, {losses[-1]:.6f} at step {len(losses)}")
