"""Writes the parallel questions: each in all seven languages, with every right answer to it.

`python -m demo_model.parallel_questions` writes `parallel_questions.jsonl` beside this file, in
the form that `python -m steering sharing` reads. Wordings are those that training never showed;
the slots are drawn from all combinations. Knows nothing of models.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from demo_model.grammar.language_pack import LANGUAGE_CODES, load_language_pack
from demo_model.grammar.world import Frame, Slots, load_world
from demo_model.splits import split_wordings

QUESTIONS_FILE = Path(__file__).with_name("parallel_questions.jsonl")
QUESTIONS_PER_FRAME = 3  # a frame without slots has but one
_SEED = 0


def iter_questions() -> Iterator[dict[str, object]]:
    """Yield the rows of the file: a question of every topic, then a second, then a third.

    So the first rows of the file, taken alone, are of many topics; these come in random order.
    """
    frames = [frame for name, frame in load_world().frames.items() if name != "something_else"]
    random.Random(_SEED).shuffle(frames)
    chosen = {frame.name: _choose_slots(frame) for frame in frames}
    for place in range(QUESTIONS_PER_FRAME):
        for frame in frames:
            if place < len(chosen[frame.name]):
                yield _make_row(frame, chosen[frame.name][place])


def render_questions() -> str:
    """Return the text of the file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in iter_questions())


def _choose_slots(frame: Frame) -> list[Slots]:
    combinations = list(load_world().combinations(frame))
    rng = random.Random(f"{_SEED}:{frame.name}")
    return rng.sample(combinations, min(QUESTIONS_PER_FRAME, len(combinations)))


def _make_row(frame: Frame, slots: Slots) -> dict[str, object]:
    prompts, answers = {}, {}
    for code in LANGUAGE_CODES:
        pack = load_language_pack(code)
        _, unseen = split_wordings(pack, frame)
        prompts[code] = pack.render(frame, unseen[0], slots)
        answers[code] = [pack.render(frame, one, slots) for one in pack.reply[frame.name]]
    asked = {slot: slots[slot] for slot in frame.ask}
    return {"prompt": prompts, "answer": answers, "topic": frame.name, "asked": asked}


if __name__ == "__main__":
    QUESTIONS_FILE.write_text(render_questions(), encoding="utf-8")
