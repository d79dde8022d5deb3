"""Held-out text of the grammar in one language: a question that training never saw, and its answer.

Half of the questions are worded as training never words them, half ask for a combination that it
never shows. Needs no file. Knows nothing of tokens or models.
"""

import random

from demo_model.dialogues import HeldOut, held_out_prompt, render_answer
from demo_model.grammar.world import load_world


def held_out_texts(count: int, *, language: str, seed: int = 0) -> list[str]:
    """Return up to *count* different texts, each a held-out question and its right answer.

    The n-th draw begins from the same random state in every language.
    """
    frames = load_world().frames
    texts = {}
    for number in range(count):
        rng = random.Random(f"held-out text:{seed}:{number}")
        kind: HeldOut = "combination" if number % 2 else "wording"
        prompt = held_out_prompt(rng, language, language, kind)
        answer = render_answer(
            frames[prompt.frame], prompt.slots, language, variant=rng.randrange(2)
        )
        texts[f"{prompt.text} {answer}"] = number
    return list(texts)
