"""Generates replies to a batch of conversations, each row with its own plan.

Knows conversations and plans, not how a plan is made or what language came out; `batch.py` runs
the model, `engine.py` puts a thread and a queue around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from steering.answer import Answer, AnswerView, FinishReason, decode_answer
from steering.batch import answer_all, raise_if_out_of_memory
from steering.conversation import Message, fit_prompt
from steering.errors import GenerationError, PlanError
from steering.guard import GuardSpec, Rewrite
from steering.hooks import input_device
from steering.steering_plan import SteeringPlan
from steering.token_choice import Sampling, read_own_processors

if TYPE_CHECKING:
    from steering.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class ReplyUpdate:
    """The replies so far.

    Args:
        texts: Per row, the whole text up to here.
        finish_reasons: Per row once it is finished, None before.
        notes: Per row, what was left out of the prompt; empty when nothing was.
        new_tokens: Tokens of the replies so far, all rows together.
        prompt_tokens: Per row, the tokens of its prompt; empty while the request waits.
        rewrites: Per row, the passages that the guard had written again; empty without a guard.
        settled: Per row, how many characters stay whatever comes; empty while the request waits.
        place: 0 once it is being answered; before, its place in the queue, 1 being the next.
        row_tokens: Per row, the tokens of its reply so far; empty while the request waits.
    """

    texts: tuple[str, ...]
    finish_reasons: tuple[FinishReason | None, ...]
    notes: tuple[str, ...]
    new_tokens: int
    prompt_tokens: tuple[int, ...] = ()
    rewrites: tuple[tuple[Rewrite, ...], ...] = ()
    settled: tuple[int, ...] = ()
    place: int = 0
    row_tokens: tuple[int, ...] = ()


def generate(
    model: LoadedModel, prompts: Sequence[str], *, sampling: Sampling | None = None
) -> list[str]:
    """Answer each prompt, in one batch. Inside `with Steerer(...)` the replies are steered.

    By transformers' own `generate`, which keeps the rows together as a `Steerer` expects it; all
    draw from the seed of *sampling* in turn. A token bias needs plans: see
    `generate_conversations`.

    Args:
        model: From `load_model`.
        prompts: The person's messages; longer ones than the context are cut at the beginning.
        sampling: Greedy, up to 120 tokens, when omitted; without stop texts.

    Raises:
        GenerationError: If a prompt is empty, or the model runs out of memory.
    """
    chosen = sampling or Sampling()
    fitted = [
        fit_prompt(model, [Message("user", prompt)], answer_tokens=chosen.max_new_tokens)
        for prompt in prompts
    ]
    if not fitted:
        raise GenerationError("Cannot answer '0' conversations. Expected at least one.")
    batch = model.tokenizer.pad(
        {"input_ids": [one.token_ids for one in fitted]}, return_tensors="pt", padding_side="left"
    ).to(input_device(model.model))
    torch.manual_seed(chosen.seed)
    try:
        with torch.inference_mode():
            ids = model.model.generate(  # type: ignore[operator]  # transformers mixes it in untyped
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=chosen.max_new_tokens,
                **_choice_by_transformers(model, chosen),
                pad_token_id=model.tokenizer.pad_token_id,
                disable_compile=True,
            )
    except (RuntimeError, MemoryError) as err:
        raise_if_out_of_memory(err, len(fitted), batch["input_ids"].shape[1])
        raise
    new = ids[:, batch["input_ids"].shape[1] :]
    return [decode_answer(model.tokenizer, row) for row in new.tolist()]


def _choice_by_transformers(model: LoadedModel, sampling: Sampling) -> dict[str, Any]:
    """Return the settings as `generate` takes them; what it would add by itself is put out."""
    if sampling.temperature == 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    own = read_own_processors(model.model.generation_config)
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": own.top_k or 0,
    }


def generate_conversations(
    model: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    *,
    plans: Sequence[SteeringPlan],
    sampling: Sampling | Sequence[Sampling] | None = None,
    guards: Sequence[GuardSpec | None] = (),
) -> list[str]:
    """Answer conversations in one batch, each row with its own plan.

    Args:
        model: From `load_model`; left as it was.
        conversations: One per row.
        plans: One per row.
        sampling: For all rows or one per row; greedy, up to 120 tokens, when omitted. Rows of one
            seed make the same draws.
        guards: One per row; none when empty.

    Raises:
        GenerationError: As `generate`.
        PlanError: If a plan does not fit the model, or there are not as many as conversations.
    """
    views = answer_conversations(
        model, conversations, plans=plans, sampling=sampling, guards=guards
    )
    return [view.text for view in views]


def answer_conversations(
    model: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    *,
    plans: Sequence[SteeringPlan],
    sampling: Sampling | Sequence[Sampling] | None = None,
    guards: Sequence[GuardSpec | None] = (),
) -> list[AnswerView]:
    """Do as `generate_conversations`; return what is to be known of every answer."""
    answers = make_answers(model, conversations, plans=plans, sampling=sampling, guards=guards)
    answer_all(model, answers)
    return [answer.view() for answer in answers]


def make_answers(
    model: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    *,
    plans: Sequence[SteeringPlan],
    sampling: Sampling | Sequence[Sampling] | None = None,
    guards: Sequence[GuardSpec | None] = (),
) -> list[Answer]:
    """Return the rows that `answer_conversations` writes, with nothing written yet."""
    rows = len(conversations)
    settings = sampling if isinstance(sampling, Sequence) else [sampling or Sampling()] * rows
    for name, given in (("steering plans", plans), ("settings", settings), ("guards", guards)):
        if len(given) != rows and not (name == "guards" and not given):
            raise PlanError(
                f"There are '{len(given)}' {name} for {rows} conversations. Expected one per row; "
                "give each conversation its own."
            )
    return [
        Answer(
            model,
            conversation,
            fit_prompt(model, conversation, answer_tokens=one.max_new_tokens),
            plan=plan,
            sampling=one,
            guard=guard,
        )
        for conversation, plan, one, guard in zip(
            conversations, plans, settings, guards or [None] * rows, strict=True
        )
    ]


def make_update(answers: Sequence[Answer]) -> ReplyUpdate:
    """Return the answers so far; may be called from any thread."""
    views = [answer.view() for answer in answers]
    return ReplyUpdate(
        texts=tuple(view.text for view in views),
        finish_reasons=tuple(view.reason for view in views),
        notes=tuple(answer.prompt.note for answer in answers),
        new_tokens=sum(view.tokens for view in views),
        prompt_tokens=tuple(len(answer.prompt.token_ids) for answer in answers),
        rewrites=tuple(view.rewrites for view in views),
        settled=tuple(view.settled for view in views),
        row_tokens=tuple(view.tokens for view in views),
    )
