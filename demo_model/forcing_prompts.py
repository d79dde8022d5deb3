"""Held-out prompts of the grammar for `evaluate forcing`, each with its plain instruction.

Whether a reply is right is decided by the grammar's parser.
"""

from dataclasses import dataclass

from demo_model.dialogues import Prompt, held_out_prompts
from demo_model.grammar.language_pack import load_language_pack
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
    made = []
    for number, prompt in enumerate(held_out_prompts(count, seed=seed)):
        instruction = load_language_pack(prompt.language).instruction(prompt.target, number)
        made.append(GrammarPrompt(prompt, f"{prompt.text} {instruction}"))
    return made
