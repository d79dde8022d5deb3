"""What training never sees, decided by a hash so that training and evaluation agree for ever.

Three kinds of held-out material: the last wording of every question, 15% of the slot combinations
of frames whose unseen combinations can be answered from their parts, and 8% of the cells
(frame, prompt language, other answer language). Knows nothing of how dialogues are worded.
"""

import hashlib

from demo_model.grammar.language_pack import LanguagePack, Wording
from demo_model.grammar.world import Frame, Slots

COMBINATION_FRACTION = 0.15
PAIR_FRACTION = 0.08
HELD_OUT_OTHER_PROMPTS = 6  # of the 55 prompts outside the topics


def _share(*key: str) -> float:
    """Return a number in [0, 1) that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out_combination(frame: Frame, slots: Slots) -> bool:
    """Say whether training must not show these slot values together in this frame."""
    if not frame.combine:
        return False
    asked = [f"{slot}={slots[slot]}" for slot in sorted(frame.ask)]
    return _share("combination", frame.name, *asked) < COMBINATION_FRACTION


def is_held_out_pair(frame: Frame, prompt_language: str, answer_language: str) -> bool:
    """Say whether training must not show this frame answered across this pair of languages."""
    if prompt_language == answer_language:
        return False
    return _share("pair", frame.name, prompt_language, answer_language) < PAIR_FRACTION


def split_wordings(pack: LanguagePack, frame: Frame) -> tuple[list[Wording], list[Wording]]:
    """Return the question wordings for training and the held-out ones."""
    wordings = list(pack.ask[frame.name])
    cut = -HELD_OUT_OTHER_PROMPTS if frame.name == "something_else" else -1
    return wordings[:cut], wordings[cut:]
