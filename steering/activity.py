"""Which language's neurons fire, token by token, while a model reads an answer that it has given.

A neuron is active on a token when its activation, the output of the activation function at the
position where the token is read, is above 0: what LAPE counts. In words:

    excess of a language on a token = mean over its neurons of (1 if active on it, else 0)
                                    - mean over its neurons of their usual probability,

where a neuron's usual probability is the mean of its activation probabilities over all languages
of the set. So neither a large set wins by its size, nor neurons that are active on everything. The
language with the highest excess fired most; none did where no excess is above 0. Of a mixture of
experts only the neurons count whose expert the token went to.

Limits. The usual probabilities are those of the positions that the set was selected on: neurons of
a set that was selected on onsets say most of the onset. Languages with few neurons have a rough
excess: one of three neurons is a third. The answer's text is cut into tokens anew, which may differ
from those that were written. Steering is repeated by the plan alone: what the guard wrote again,
steered harder, is read like the rest. What a plan adds at the value site or to the residual shows
in later layers only.

Ours: no paper defines it. Knows sets, plans and positions, not pages or engines: `AnswerReader` is
to be run by whoever owns the model. Key: K languages, P positions, S selected neurons, T tokens of
a pass, N neurons per layer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.batch import new_cache, raise_if_out_of_memory
from steering.conversation import Message, context_tokens, fit_prompt
from steering.errors import GenerationError, StatsError
from steering.hooks import attached, find_sites, input_device, noting_routing
from steering.languages import Language
from steering.neuron_set import NeuronSet
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, SteeringPlan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steering.loading import LoadedModel

PASS_TOKENS = 128  # everybody else waits for the end of a pass
_BROKEN = "\ufffd"  # what bytes that are no whole character decode to
_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class TokenReading:
    """One token of an answer, or several where they make one character together.

    Args:
        text: As it stands in the answer; empty for the onset.
        excess: Per language, -1..1; languages without neurons are left out.
    """

    text: str
    excess: Mapping[Language, float]

    @property
    def strongest(self) -> Language | None:
        """Return the language that fired most, the first of the set among equals; None if none."""
        best = max(self.excess, key=lambda language: self.excess[language], default=None)
        return best if best is not None and self.excess[best] > 0 else None


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """What fired while an answer was read.

    Args:
        onset: The position before the answer, which predicts its first token.
        tokens: The answer; their texts make it up.
        note: What of the conversation or the answer was left out; empty when nothing was.
    """

    onset: TokenReading
    tokens: tuple[TokenReading, ...]
    note: str = ""


class AnswerReader:
    """Reads one answer in passes of few tokens, as everybody else waits for the end of a pass.

    `prepare` first, then `read_on` until `is_done`, both in the thread that owns the model, which
    is left as it was each time.
    """

    def __init__(
        self,
        neurons: NeuronSet,
        conversation: Sequence[Message],
        answer: str,
        *,
        plan: SteeringPlan = NO_STEERING,
        answer_tokens: int,
    ) -> None:
        """Read nothing yet.

        Args:
            neurons: Made for the model.
            conversation: Up to the question.
            answer: What was answered.
            plan: What steered it; its token bias changes no activation.
            answer_tokens: How long the answer might have been, as that decides what of a long
                conversation was left out.

        Raises:
            StatsError: If the set has no activation probabilities, as an imported one may.
        """
        if neurons.activation_prob is None:
            raise StatsError(
                "This neuron set has no activation probabilities, so that nobody can say what is "
                "usual for a neuron. Record them with `python -m steering build-set --complete`."
            )
        self._neurons, self._plan = neurons, plan
        self._conversation, self._answer = tuple(conversation), answer
        self._answer_tokens = answer_tokens
        self._ids: list[int] = []
        self._onset = 0
        self._read = 0  # tokens that were read, of the prompt and the answer
        self._note = ""
        self._pieces: list[tuple[str, int, int]] = []
        self._cache = new_cache()
        self._is_active: Tensor  # (P, S), from the onset on
        self._is_reached: Tensor  # (P, S)

    @property
    def tokens(self) -> int:
        """Return how many tokens there are to read; 0 before `prepare`."""
        return len(self._ids)

    @property
    def read_tokens(self) -> int:
        """Return how many of them were read."""
        return self._read

    @property
    def is_done(self) -> bool:
        """Say whether all was read."""
        return bool(self._ids) and self._read == len(self._ids)

    def prepare(self, model: LoadedModel) -> None:
        """Turn the conversation and the answer into tokens.

        Raises:
            GenerationError: If the answer is empty, or the conversation cannot be read.
        """
        fitted = fit_prompt(model, self._conversation, answer_tokens=self._answer_tokens)
        encoded = model.tokenizer(self._answer, add_special_tokens=False, verbose=False)
        answer = list(encoded["input_ids"])
        room = context_tokens(model) - len(fitted.token_ids)
        if not answer:
            raise GenerationError(
                f"Cannot read the answer '{self._answer}': it has no token. Choose another."
            )
        self._note = fitted.note
        if len(answer) > room:
            self._note += f" The answer's last {len(answer) - room} tokens were left out."
        self._ids = fitted.token_ids + answer[:room]
        self._onset = len(fitted.token_ids) - 1
        self._pieces = split_pieces(model.tokenizer, answer[:room])
        shape = (len(self._ids) - self._onset, len(self._neurons.layer))
        self._is_active = torch.zeros(shape, dtype=torch.bool)
        self._is_reached = torch.ones(shape, dtype=torch.bool)

    @torch.inference_mode()
    def read_on(self, model: LoadedModel) -> None:
        """Read the next tokens, at most `PASS_TOKENS`.

        Raises:
            OutOfMemoryError: If memory does not suffice.
            PlanError: If the plan does not fit the model.
        """
        network = model.model
        ids = self._ids[self._read : self._read + PASS_TOKENS]
        sites, layers = find_sites(network), set(self._neurons.layer.tolist())
        with (
            steered(network, [self._plan]) as clock,
            attached(sites, {"gate": self._note_active}, layers=layers),
            noting_routing(sites, self._note_routing),
        ):
            clock.start_at(self._onset)
            try:
                network.base_model(
                    input_ids=torch.tensor([ids], device=input_device(network)),
                    past_key_values=self._cache,
                    use_cache=True,
                )
            except (RuntimeError, MemoryError) as err:
                raise_if_out_of_memory(err, 1, len(self._ids))
                raise
        self._read += len(ids)

    def result(self) -> AnswerReading:
        """Return what fired, once all is read."""
        excess_KP = excess_over_usual(self._neurons, self._is_active, self._is_reached)
        tokens = [
            TokenReading(text, self._by_language(excess_KP[:, 1 + first : 1 + end].mean(dim=1)))
            for text, first, end in self._pieces
        ]
        onset = TokenReading("", self._by_language(excess_KP[:, 0]))
        return AnswerReading(onset, tuple(tokens), self._note.strip())

    def _by_language(self, excess_K: Tensor) -> dict[Language, float]:
        pairs = zip(self._neurons.languages, excess_K.tolist(), strict=True)
        return {language: excess for language, excess in pairs if excess == excess}  # not nan

    def _note_active(self, layer: int, activation: Tensor) -> None:  # (1, T, N)
        rows, skipped = self._rows_of_pass(activation.shape[1])
        chosen = (self._neurons.layer == layer).nonzero().flatten()
        units = self._neurons.index[chosen].to(activation.device)
        self._is_active[rows, chosen] = (activation[0, skipped:, units] > 0).cpu()

    def _note_routing(self, layer: int, is_routed: Tensor) -> None:  # (1, T, experts)
        rows, skipped = self._rows_of_pass(is_routed.shape[1])
        chosen = (self._neurons.layer == layer).nonzero().flatten()
        width = self._neurons.metadata.neurons_per_layer // is_routed.shape[2]
        expert = (self._neurons.index[chosen] // width).to(is_routed.device)
        self._is_reached[rows, chosen] = is_routed[0, skipped:, expert].cpu()

    def _rows_of_pass(self, tokens: int) -> tuple[slice, int]:
        """Return the rows of this pass from the onset on, and how many columns come before it."""
        skipped = min(max(self._onset - self._read, 0), tokens)
        first = self._read + skipped - self._onset
        return slice(first, first + tokens - skipped), skipped


def excess_over_usual(neurons: NeuronSet, is_active: Tensor, is_reached: Tensor) -> Tensor:
    """Return how much more of each language's neurons are active than usual, `(K, P)`.

    Args:
        neurons: With activation probabilities.
        is_active: Whether a neuron is active at a position, bool `(P, S)`.
        is_reached: Whether it was asked at all, bool `(P, S)`; always, without experts.

    Returns:
        Float64, -1..1; nan where none of a language's neurons was reached, or it has none.
    """
    if neurons.activation_prob is None:
        raise StatsError("This neuron set has no activation probabilities; record them first.")
    usual_S = neurons.activation_prob.double().mean(dim=0)
    more_PS = (is_active.double() - usual_S) * is_reached
    members_KS = neurons.is_member.double()
    return (members_KS @ more_PS.T) / (members_KS @ is_reached.double().T)


def split_pieces(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]
) -> list[tuple[str, int, int]]:
    """Return the texts of tokens, each with the tokens' place, first and behind the last.

    Tokens that are parts of one character come together, and marks with the letter they stand on.
    The texts make up the whole.
    """

    def decode(first: int, end: int) -> str:
        part = list(ids[first:end])
        return str(
            tokenizer.decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    return _join_marks(_split(decode, len(ids)))


def _split(decode: Callable[[int, int], str], count: int) -> list[tuple[str, int, int]]:
    """Decode each token behind the one before, as some tokenizers drop a text's first space."""
    pieces: list[tuple[str, int, int]] = []
    before = first = 0
    for end in range(1, count + 1):
        known, text = decode(before, first), decode(before, end)
        is_whole = len(text) > len(known) and not text.endswith(_BROKEN)
        if is_whole or end == count:
            pieces.append((text[len(known) :].rstrip(_BROKEN), first, end))
            before, first = first, end
    return pieces


def _join_marks(pieces: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    joined: list[tuple[str, int, int]] = []
    for text, first, end in pieces:
        if joined and (not text or _belongs_to_letter_before(joined[-1][0], text)):
            earlier, start, _ = joined[-1]
            joined[-1] = (earlier + text, start, end)
        else:
            joined.append((text, first, end))
    return joined


def _belongs_to_letter_before(before: str, text: str) -> bool:
    is_mark = unicodedata.category(text[0]).startswith("M")
    return is_mark or text[0] == _JOINER or before.endswith(_JOINER)
