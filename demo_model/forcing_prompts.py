"""Held-out prompts of the grammar for `evaluate forcing`, each with its plain instruction.

Whether a reply is right is decided by the grammar's parser.
"""

import random
from dataclasses import dataclass, replace

from demo_model.dialogues import Prompt, held_out_prompts, sample_training_question
from demo_model.grammar.language_pack import LANGUAGE_CODES, load_language_pack
from demo_model.grammar.parsing import Parse, iter_parses


@dataclass(frozen=True, slots=True)
class GrammarPrompt:
    """A held-out question in the grammar's languages; codes, not `Language`."""

    prompt: Prompt
    instructed_text: str

    def is_right(self, reply: str) -> bool:
        """Say whether a reply is in the target language and answers the question."""
        question = Parse(self.prompt.language, "ask", self.prompt.frame, self.prompt.slots)
        return any(
            found.language == self.prompt.target and found.answers(question)
            for found in iter_parses(reply, side="reply")
        )


def make_forcing_prompts(count: int, *, seed: int = 0) -> list[GrammarPrompt]:
    """Return held-out prompts; the instruction is in the prompt's language, behind the question."""
    prompts = held_out_prompts(count, seed=seed)
    return [_grammar_prompt(prompt, number) for number, prompt in enumerate(prompts)]


def make_tuning_prompts(count: int, *, seed: int = 0) -> list[GrammarPrompt]:
    """Return questions of the training side, without instruction, to find strengths on.

    Prompt language and target go round all 49 pairs, so that every target meets every language.
    """
    rng = random.Random(f"tuning:{seed}")
    made = []
    for number in range(count):
        target = LANGUAGE_CODES[number % len(LANGUAGE_CODES)]
        language = LANGUAGE_CODES[(number // len(LANGUAGE_CODES)) % len(LANGUAGE_CODES)]
        frame, slots, text = sample_training_question(rng, language, target)
        prompt = Prompt(text, language, target, frame.name, slots, held_out=None)
        made.append(_grammar_prompt(prompt, number))
    return made


def make_conversations(count: int, turns: int, *, seed: int = 0) -> list[list[GrammarPrompt]]:
    """Return conversations of held-out prompts in one language whose target changes once.

    The first half of the turns (one of two, two of five) has one target, the others another.
    """
    rng = random.Random(f"conversations:{seed}")
    by_language: dict[str, list[Prompt]] = {code: [] for code in LANGUAGE_CODES}
    for prompt in held_out_prompts(7 * count * turns, seed=seed + 1):
        by_language[prompt.language].append(prompt)
    made = []
    for number in range(count):
        language = LANGUAGE_CODES[number % len(LANGUAGE_CODES)]
        targets = rng.sample(LANGUAGE_CODES, 2)
        prompts = [by_language[language].pop() for _ in range(turns)]
        made.append(
            [
                _grammar_prompt(replace(prompt, target=targets[turn >= turns // 2]), turn)
                for turn, prompt in enumerate(prompts)
            ]
        )
    return made


def _grammar_prompt(prompt: Prompt, variant: int) -> GrammarPrompt:
    """Add the plain instruction, in the prompt's language, behind the question."""
    instruction = load_language_pack(prompt.language).instruction(prompt.target, variant)
    return GrammarPrompt(prompt, f"{prompt.text} {instruction}")
