"""Prompts of the bundled model's grammar, for the commands that measure.

The one place of the command line that knows `demo_model`, which is imported when it is needed.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.corpus_rows import Dialogue
from steering.errors import SettingsError
from steering.evaluation.forcing import ForcingPrompt
from steering.languages import LANGUAGES, Language

SHOWN_AFTER_S = 1.0  # of a bar for what is seldom slow

if TYPE_CHECKING:
    from demo_model.forcing_prompts import GrammarPrompt


def held_out_prompts(
    count: int, *, seed: int, languages: Sequence[Language]
) -> list[ForcingPrompt]:
    """Return those of so many prompts that training never saw whose target is in the set."""
    from demo_model.forcing_prompts import make_forcing_prompts

    made = _convert(make_forcing_prompts(count, seed=seed))
    return [prompt for prompt in made if prompt.target in languages]


def tuning_prompts(count: int, *, languages: Sequence[Language]) -> list[ForcingPrompt]:
    """Return the same from the training side of the split, to find strengths on."""
    from demo_model.forcing_prompts import make_tuning_prompts

    # They go round the seven targets of the grammar, of which a set may hold fewer.
    made = _convert(make_tuning_prompts(count * 7 // min(7, len(languages))))
    return [prompt for prompt in made if prompt.target in languages]


def held_out_conversations(
    count: int, *, turns: int, seed: int, languages: Sequence[Language]
) -> list[list[ForcingPrompt]]:
    """Return those of so many conversations whose two targets are in the set."""
    from demo_model.forcing_prompts import make_conversations

    made = [_convert(prompts) for prompts in make_conversations(count, turns, seed=seed)]
    return [prompts for prompts in made if all(one.target in languages for one in prompts)]


def parallel_questions_file() -> Path:
    """Return where questions lie that are given in all seven languages, with right answers."""
    from demo_model.parallel_questions import QUESTIONS_FILE

    return QUESTIONS_FILE


def held_out_dialogues(
    count: int, *, seed: int, languages: Sequence[Language]
) -> dict[Language, list[Dialogue]]:
    """Return up to *count* held-out questions, with their answers in the same language, for each.

    Shows a bar when that takes long.

    Raises:
        SettingsError: If the grammar does not hold a language.
    """
    from demo_model.grammar.language_pack import LANGUAGE_CODES
    from demo_model.held_out_dialogues import held_out_dialogues as make_dialogues

    if missing := [str(one) for one in languages if one.code not in LANGUAGE_CODES]:
        raise SettingsError(
            f"The bundled grammar has no '{', '.join(missing)}', which the neuron set has. "
            f"Expected languages among {', '.join(LANGUAGE_CODES)}; name a folder of held-out text "
            "with `--text`."
        )
    total = count * len(languages)
    with tqdm(total=total, unit="dialogues", dynamic_ncols=True, delay=SHOWN_AFTER_S) as bar:
        return {
            one: [
                Dialogue(*pair)
                for pair in make_dialogues(
                    count, language=one.code, seed=seed, progress=partial(bar.update, 1)
                )
            ]
            for one in languages
        }


def _convert(prompts: "Sequence[GrammarPrompt]") -> list[ForcingPrompt]:
    return [
        ForcingPrompt(
            text=made.prompt.text,
            instructed_text=made.instructed_text,
            language=LANGUAGES[made.prompt.language],
            target=LANGUAGES[made.prompt.target],
            is_right=made.is_right,
        )
        for made in prompts
    ]
