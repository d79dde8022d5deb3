"""Prompts of the bundled model's grammar, for the commands that measure.

The one place of the command line that knows `demo_model`, which is imported when it is needed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steering.evaluation.forcing import ForcingPrompt
from steering.languages import LANGUAGES

if TYPE_CHECKING:
    from demo_model.forcing_prompts import GrammarPrompt


def held_out_prompts(count: int, *, seed: int) -> list[ForcingPrompt]:
    """Return prompts that training never saw."""
    from demo_model.forcing_prompts import make_forcing_prompts

    return _convert(make_forcing_prompts(count, seed=seed))


def tuning_prompts(count: int) -> list[ForcingPrompt]:
    """Return prompts from the training side of the split, to find strengths on."""
    from demo_model.forcing_prompts import make_tuning_prompts

    return _convert(make_tuning_prompts(count))


def held_out_conversations(count: int, *, turns: int, seed: int) -> list[list[ForcingPrompt]]:
    """Return conversations of held-out prompts whose target changes in the middle."""
    from demo_model.forcing_prompts import make_conversations

    return [_convert(made) for made in make_conversations(count, turns, seed=seed)]


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
