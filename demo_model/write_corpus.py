"""Writes what neuron sets of the bundled model are built and measured on.

`python -m demo_model.write_corpus --out DIR` writes `text/<code>.txt` (answers of the grammar) and
`dialogues/<code>.jsonl` (prompts in all languages that ask for an answer in language <code>, and
that answer), from the training side of the split alone. With `--text DIR` also `held_out/`, the
lines of natural text that training never saw.
"""

import argparse
import json
import random
from pathlib import Path

from demo_model.dialogues import instruct, render_answer, sample_training_question
from demo_model.grammar.language_pack import LANGUAGE_CODES
from demo_model.text import held_out_lines


def dialogue_row(rng: random.Random, target: str) -> dict[str, str]:
    """Return a contrastive dialogue: only the language of the answer is fixed."""
    language = rng.choice(LANGUAGE_CODES)
    frame, slots, question = sample_training_question(rng, language, target)
    prompt = instruct(rng, question, language, target)
    return {"prompt": prompt, "answer": render_answer(frame, slots, target)}


def text_line(rng: random.Random, language: str) -> str:
    """Return one answer of the grammar."""
    frame, slots, _ = sample_training_question(rng, language, language)
    return render_answer(frame, slots, language)


def write_corpus(out: Path, *, dialogues: int, lines: int, seed: int) -> None:
    """Write the text and dialogue files; the same arguments give the same bytes."""
    for folder in ("text", "dialogues"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for code in LANGUAGE_CODES:
        # The n-th question is the same for every target, so that only the answer's language
        # differs: what questions are about must not leak into the difference of means.
        rows = [
            json.dumps(dialogue_row(random.Random(f"{seed}:{n}"), code), ensure_ascii=False)
            for n in range(dialogues)
        ]
        _write_lines(out / "dialogues" / f"{code}.jsonl", rows)
        rng = random.Random(f"{seed}:{code}")
        _write_lines(out / "text" / f"{code}.txt", [text_line(rng, code) for _ in range(lines)])


def write_held_out_text(out: Path, text: Path) -> None:
    """Write the natural text that training never saw."""
    (out / "held_out").mkdir(parents=True, exist_ok=True)
    for code, lines in held_out_lines(text).items():
        _write_lines(out / "held_out" / f"{code}.txt", lines)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Read the arguments and write."""
    parser = argparse.ArgumentParser(prog="python -m demo_model.write_corpus", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--text", type=Path, help="folder of the training text, for held_out/")
    parser.add_argument("--dialogues", type=int, default=600, help="per language")
    parser.add_argument("--lines", type=int, default=1000, help="per language")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    write_corpus(
        arguments.out, dialogues=arguments.dialogues, lines=arguments.lines, seed=arguments.seed
    )
    if arguments.text is not None:
        write_held_out_text(arguments.out, arguments.text)


if __name__ == "__main__":
    main()
