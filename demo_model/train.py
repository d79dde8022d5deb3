"""Trains the bundled model: `python -m demo_model.train --text DIR`. Stops and resumes freely.

Stage 1 is natural text, so that the model packs its languages into neurons at all; stage 2 is
dialogues with natural text mixed in. Everything depends on the seed and the step number; the
checkpoint holds the weights, the optimizers and the step. Matrices are trained by Muon, the rest by
AdamW: at this size Muon halves the steps (docs/log.md). Knows nothing of steering.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.optim import AdamW, Optimizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from demo_model.batches import Batch, BatchMaker, join
from demo_model.text import training_lines
from demo_model.tokenizer import VOCABULARY, train_tokenizer

WEIGHTS_DIR = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class Restart:
    """More steps after the rate has fallen: it rises again, and other dialogues are drawn."""

    steps: int
    peak_rate: float
    seed: int

    def rate(self, step: int) -> float:
        """Return the learning rate at a step of its own: constant for a fifth, then falling."""
        progress = max(0.0, (step - self.steps / 5) / (self.steps * 4 / 5))
        return self.peak_rate * min((step + 1) / 50, max(1 - progress**0.5, 0.01))


@dataclass(frozen=True, slots=True)
class Recipe:
    """All numbers of the training run; the card repeats them."""

    seed: int = 0
    hidden_size: int = 256
    layers: int = 6
    neurons_per_layer: int = 1024
    heads: int = 4
    context_tokens: int = 512
    text_steps: int = 2400
    text_rows: int = 16
    text_row_tokens: int = 192
    dialogue_steps: int = 9600
    dialogue_rows: int = 11
    mixed_text_rows: int = 1
    rough_from_step: int = 6700  # from here on a share of the questions lacks a word
    dialogue_row_tokens: int = 256
    peak_rate: float = 3e-3
    warmup_steps: int = 100
    constant_steps: int = 4400  # then the rate falls as 1 - sqrt(progress), to a hundredth
    restarts: tuple[Restart, ...] = (
        Restart(steps=5000, peak_rate=1.5e-3, seed=101),
        Restart(steps=7500, peak_rate=1.5e-3, seed=202),
        Restart(steps=6000, peak_rate=1.5e-3, seed=303),
        Restart(steps=6000, peak_rate=1.5e-3, seed=404),
    )
    averaged_parts: int = 3  # whose last weights are averaged: better than any of them
    weight_decay: float = 0.1
    gradient_norm: float = 1.0

    @property
    def steps(self) -> int:
        """Return the number of all steps."""
        return self._first_steps + sum(part.steps for part in self.restarts)

    @property
    def averaged_steps(self) -> tuple[int, ...]:
        """Return the steps whose weights are averaged: the ends of the last parts."""
        ends = list(accumulate((self._first_steps, *(part.steps for part in self.restarts))))
        return tuple(ends[-self.averaged_parts :])

    @property
    def _first_steps(self) -> int:
        """Return the number of steps before the first restart."""
        return self.text_steps + self.dialogue_steps

    def part_of(self, step: int) -> tuple[Restart | None, int]:
        """Return the restart that a step belongs to, None before the first, and its own number."""
        step_of_part, part = step, None
        for length, following in zip(
            (self._first_steps, *(one.steps for one in self.restarts)), self.restarts, strict=False
        ):
            if step_of_part < length:
                break
            step_of_part, part = step_of_part - length, following
        return part, step_of_part

    def rate(self, step: int) -> float:
        """Return the learning rate at a step: warm-up, constant, then 1 - sqrt of the progress.

        A batch is small, so that most of what a high rate learns is noise: at a third of the peak
        rate the loss fell by 0.1 nats within 300 steps (docs/log.md).
        """
        part, own_step = self.part_of(step)
        if part is not None:
            return part.rate(own_step)
        progress = max(0, step - self.constant_steps) / (self._first_steps - self.constant_steps)
        return self.peak_rate * min((step + 1) / self.warmup_steps, max(1 - progress**0.5, 0.01))


class Trainer:
    """A model, its optimizer and the step they stand at."""

    def __init__(self, recipe: Recipe, folder: Path, *, is_compiled: bool = False) -> None:
        """Start from *folder*'s checkpoint where there is one, else from random weights."""
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder, self.step, self.seconds = recipe, folder, 0, 0.0
        # Plain attention: for rows this short its backward pass is quicker than the fused one.
        self.model = AutoModelForCausalLM.from_config(_config(recipe), attn_implementation="eager")
        self._forward = torch.compile(self.model, dynamic=False) if is_compiled else self.model
        self._names = dict(self.model.named_parameters())
        self.optimizers = _optimizers(self._names, recipe)
        if (folder / "state.json").exists():
            self._resume()

    def train_step(self, batch: Batch) -> float:
        """Take one step and return the loss in nats per labelled token."""
        started = time.perf_counter()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = self._forward(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                attention_mask=batch.attention_mask(),
                labels=batch.labels,
                use_cache=False,
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.seconds += time.perf_counter() - started
        if self.step in self.recipe.averaged_steps:
            weights = {name: p.detach().half() for name, p in self._names.items()}
            save_file(weights, self._end_of_part(self.step))
        return float(loss.detach())

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """Return the average of the weights at the ends of the last parts, in fp16 as they are."""
        ends = [load_file(self._end_of_part(step)) for step in self.recipe.averaged_steps]
        return {
            name: (sum(end[name].double() for end in ends) / len(ends)).half() for name in ends[0]
        }

    def _end_of_part(self, step: int) -> Path:
        return self.folder / f"end-{step}.safetensors"

    def save(self) -> None:
        """Write the checkpoint to new files, then rename: a kill leaves the old or the new one."""
        tensors = {f"model.{name}": p.detach() for name, p in self._names.items()}
        for name, p in self._names.items():
            for key, value in self._optimizer_of(p).state[p].items():
                tensors[f"optimizer.{key}.{name}"] = value
        name = f"step-{self.step}.safetensors"
        save_file(tensors, self.folder / name)
        state = {"step": self.step, "seconds": self.seconds, "file": name,
                 "recipe": asdict(self.recipe)}  # fmt: skip
        temporary = self.folder / "state.json.new"
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.folder / "state.json")
        for old in self.folder.glob("step-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _resume(self) -> None:
        state = json.loads((self.folder / "state.json").read_text())
        if state["recipe"] != json.loads(json.dumps(asdict(self.recipe))):
            raise SystemExit(
                f"error: '{self.folder}' holds a run of another recipe. "
                "Give another --work folder, or delete this one."
            )
        tensors = load_file(self.folder / state["file"])
        self.step, self.seconds = state["step"], state["seconds"]
        for name, p in self._names.items():
            p.data.copy_(tensors[f"model.{name}"])
        for label, tensor in tensors.items():
            part, _, rest = label.partition(".")
            key, _, name = rest.partition(".")
            if part == "optimizer":
                p = self._names[name]
                self._optimizer_of(p).state[p][key] = tensor

    def _optimizer_of(self, parameter: torch.nn.Parameter) -> Optimizer:
        """Return the optimizer that trains a parameter."""
        return next(
            optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            if any(parameter is one for one in group["params"])
        )


def _optimizers(parameters: dict[str, torch.nn.Parameter], recipe: Recipe) -> list[Optimizer]:
    """Return Muon for the layers' matrices and AdamW for the embedding and the norms."""
    from torch.optim import Muon  # torch 2.9 and later; reading this module needs none of it

    matrices = [p for name, p in parameters.items() if p.ndim == 2 and "embed" not in name]
    others = [p for p in parameters.values() if not any(p is one for one in matrices)]
    return [
        Muon(matrices, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def _config(recipe: Recipe) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        intermediate_size=recipe.neurons_per_layer,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context_tokens,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=4,
    )


def make_batch(maker: BatchMaker, recipe: Recipe, step: int) -> Batch:
    """Return the batch of a step of either stage."""
    part, _ = recipe.part_of(step)
    seed = recipe.seed if part is None else part.seed
    if step < recipe.text_steps:
        return maker.text_batch(seed, step, rows=recipe.text_rows, tokens=recipe.text_row_tokens)
    tokens = recipe.dialogue_row_tokens
    return join(
        maker.dialogue_batch(
            seed,
            step,
            rows=recipe.dialogue_rows,
            tokens=tokens,
            is_rough=step >= recipe.rough_from_step,
        ),
        maker.text_batch(seed, step, rows=recipe.mixed_text_rows, tokens=tokens),
    )


def export_weights(trainer: Trainer, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write averaged fp16 weights, tokenizer and greedy settings as transformers loads them."""
    model = LlamaForCausalLM(trainer.model.config)
    model.load_state_dict(trainer.averaged_weights(), strict=False)  # one head, tied
    model.tie_weights()
    model.generation_config.update(do_sample=False, max_new_tokens=120)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(
    recipe: Recipe,
    *,
    text: Path,
    work: Path,
    out: Path,
    checkpoint_s: float,
    is_compiled: bool = False,
) -> None:
    """Run or continue the whole recipe and export the weights at the end."""
    work.mkdir(parents=True, exist_ok=True)
    lines = training_lines(text)
    if (work / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(work)
    else:
        tokenizer = train_tokenizer(lines)
        tokenizer.save_pretrained(work)
    maker = BatchMaker(tokenizer, lines)
    trainer = Trainer(recipe, work, is_compiled=is_compiled)
    saved_at, losses = time.monotonic(), []
    while trainer.step < recipe.steps:
        losses.append(trainer.train_step(make_batch(maker, recipe, trainer.step)))
        if trainer.step % 50 == 0:
            _log(work, trainer, sum(losses) / len(losses))
            losses.clear()
        if time.monotonic() - saved_at > checkpoint_s or trainer.step == recipe.text_steps:
            trainer.save()
            saved_at = time.monotonic()
    trainer.save()
    export_weights(trainer, tokenizer, out)


def _log(work: Path, trainer: Trainer, loss: float) -> None:
    row = {"step": trainer.step, "loss_nats": round(loss, 4), "train_s": round(trainer.seconds)}
    with (work / "loss.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(prog="python -m demo_model.train", description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder with <code>.txt files")
    parser.add_argument("--work", type=Path, default=Path("demo_model/work"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=WEIGHTS_DIR, help="where the weights go")
    parser.add_argument("--checkpoint-s", type=float, default=300.0, help="seconds between saves")
    parser.add_argument(
        "--compile", action="store_true", help="twice as fast; needs a C++ compiler"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        Recipe(),
        text=arguments.text,
        work=arguments.work,
        out=arguments.out,
        checkpoint_s=arguments.checkpoint_s,
        is_compiled=arguments.compile,
    )


if __name__ == "__main__":
    main()
