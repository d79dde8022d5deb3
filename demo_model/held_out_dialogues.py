"""Held-out dialogues of the grammar in one language: what training never saw, and its answer.

Half of the questions are worded as training never words them, half ask for a combination that it
never shows. Needs no file. Knows nothing of tokens or models.
"""

import random
from collections.abc import Callable

from demo_model.dialogues import HeldOut, held_out_prompt, render_answer
from demo_model.grammar.world import load_world


def held_out_dialogues(
    count: int, *, language: str, seed: int = 0, progress: Callable[[], object] | None = None
) -> list[tuple[str, str]]:
    """Return up to *count* different pairs of a held-out question and its right answer.

    The n-th draw begins from the same random state in every language; what comes twice is left out.
    *progress* is called after each draw.
    """
    frames = load_world().frames
    made: dict[tuple[str, str], None] = {}
    for number in range(count):
        rng = random.Random(f"held-out dialogue:{seed}:{number}")
        kind: HeldOut = "combination" if number % 2 else "wording"
        prompt = held_out_prompt(rng, language, language, kind)
        variant = rng.randrange(2)
        answer = render_answer(frames[prompt.frame], prompt.slots, language, variant=variant)
        made[prompt.text, answer] = None
        if progress is not None:
            progress()
    return list(made)
