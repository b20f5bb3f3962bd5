"""Training by the Trainer of transformers with a gauge-equivariant optimizer; needs transformers and accelerate.

    python trainer.py run --steps 200         compiles once, trains, saves checkpoints; called again it goes on
    python trainer.py run --by-class          the same; the Trainer makes the optimizer, and the schedule with it

A small Llama that counts; of your own, change `model` and `Counting`, and give `Trainer` what else it takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import gaugec
import gaugec.runtime
from gaugec.runtime import DDCAdamW

VOCABULARY, LENGTH = 32, 12


class Counting(Dataset[dict[str, Tensor]]):
    """Sequences that count up, from anywhere by some step; int64 [LENGTH] each, as inputs and as labels."""

    def __len__(self) -> int:
        return VOCABULARY * 5

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        tokens = (i % VOCABULARY + (i // VOCABULARY + 1) * torch.arange(LENGTH)) % VOCABULARY
        return {"input_ids": tokens, "labels": tokens}


def model() -> LlamaForCausalLM:
    """A Llama of one layer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config)


class ByClass(DDCAdamW):
    """The Trainer makes groups of parameters without names, with and without decay: they get those of the model.

    A setting called `model` it would hand over in place of the groups.
    """

    def __init__(self, groups: Any, named_by: LlamaForCausalLM, **settings: Any) -> None:
        super().__init__(groups, model=named_by, **settings)


class Clip(TrainerCallback):
    """Clips by the optimizer's norm, which is the same from every gauge copy."""

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Called before every step; the optimizer is in accelerate's wrapper."""
        getattr(optimizer, "optimizer", optimizer).clip_grad_norm_(self.max_norm)


def run(folder: Path, steps: int, save_every: int = 50, by_class: bool = False) -> Trainer:
    """Train until `steps` steps are done, from the last checkpoint where there is one."""
    net, data = model(), Counting()
    code = folder / "gauge.py"
    if not code.exists():  # once: what is proved of the model holds for all of its weights
        folder.mkdir(parents=True, exist_ok=True)
        batch = {name: torch.stack([data[i][name] for i in (1, 70)]) for name in ("input_ids", "labels")}
        compiled = gaugec.compile("llama", net, batch, outputs="loss")
        print(compiled.report())
        compiled.save(code)
    gauge = gaugec.runtime.load(code)  # needs torch alone
    settings = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=8,
        save_steps=save_every,
        logging_steps=50,
        max_grad_norm=0.0,  # the plain norm differs between gauge copies; `Clip` goes by one that does not
        learning_rate=3e-3,
        weight_decay=0.01,
        warmup_steps=20,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
    )
    common: dict[str, Any] = {"model": net, "args": settings, "train_dataset": data, "callbacks": [Clip(1.0)]}
    if by_class:
        arguments = {"named_by": net, "gauge": gauge, "lr": settings.learning_rate}
        trainer = Trainer(**common, optimizer_cls_and_kwargs=(ByClass, arguments))
    else:
        optimizer = DDCAdamW(net.named_parameters(), gauge, lr=3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
        trainer = Trainer(**common, optimizers=(optimizer, schedule))
    trainer.model_accepts_loss_kwargs = False  # no count of items beside the batch: the loss as it was compiled
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--by-class", action="store_true")
    options = parser.parse_args()
    run(options.folder, options.steps, by_class=options.by_class)
