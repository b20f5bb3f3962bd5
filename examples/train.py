"""Training with a gauge-equivariant optimizer, whole: a factory, a compile, a loop, a checkpoint, and going on from it.

    python train.py run --steps 200           compiles once, trains, saves; called again it goes on where it ended
    gaugec compile auto train.py:factory      says what the model has

A small classifier of points on two spirals; of your own, change `Net`, `factory` and `batches`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import gaugec
import gaugec.runtime
from gaugec.runtime import DDCAdamW

WIDTH, CLASSES, BATCH = 32, 2, 64


class Net(nn.Module):
    """A residual block of a norm and a ReLU layer; float [n, 2] -> logits, float [n, CLASSES]."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(2, WIDTH)
        self.norm, self.up, self.down = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the logits and, of labels, int64 [n], the loss."""
        h = self.read(x)
        logits = self.head(h + self.down(torch.relu(self.up(self.norm(h)))))
        if labels is None:
            return {"logits": logits}
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def batches(first: int) -> Iterator[dict[str, Tensor]]:
    """Points of two spirals, the same ones for the same number of a step, without end."""
    while True:
        generator = torch.Generator().manual_seed(first)
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        radius = torch.rand(BATCH, generator=generator)
        angle = 6 * radius + torch.pi * labels
        yield {"x": torch.stack([radius * angle.cos(), radius * angle.sin()], 1), "labels": labels}
        first += 1


def factory() -> tuple[Net, dict[str, Tensor]]:
    """The model and a batch, as the command line takes them."""
    return Net(), next(batches(0))


def run(folder: Path, steps: int) -> float:
    """Train for `steps` more steps; return the last loss."""
    torch.manual_seed(0)
    model, batch = factory()
    code, checkpoint = folder / "gauge.py", folder / "checkpoint.pt"
    if not code.exists():  # once: what is proved of the model holds for all of its weights
        folder.mkdir(parents=True, exist_ok=True)
        compiled = gaugec.compile("auto", model, batch, outputs="loss")
        print(compiled.report())
        compiled.save(code)
    gauge = gaugec.runtime.load(code)  # needs torch alone
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.01, model=model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        done = saved["step"]
    last = float("nan")
    for step, batch in zip(range(done, done + steps), batches(done)):
        optimizer.zero_grad(set_to_none=True)
        loss = model(**batch)["loss"]
        loss.backward()
        optimizer.step()
        schedule.step()
        last = loss.item()
        if step % 50 == 0:
            print(f"step {step}: loss {last:.4f}")
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save({"step": done + steps, **saved}, checkpoint)
    return last


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    run(options.folder, options.steps)
