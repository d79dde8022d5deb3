"""The time left for a whole set, shown behind the bar of whatever is done at the moment."""

import time
from typing import TYPE_CHECKING, NoReturn

from steering.evaluation.calibrating import CalibrationSettings
from steering.from_model import Questions
from steering.pace import Pace, Work

if TYPE_CHECKING:
    from tqdm import tqdm


class Outlook:
    """Times the parts of making a set with nothing but a model."""

    def __init__(
        self, questions: Questions, settings: CalibrationSettings, *, calibration_answers: int
    ) -> None:
        """Plan the parts.

        Args:
            questions: What the model answers, and is recorded on.
            settings: Of the calibration.
            calibration_answers: How many that asks for; 0 when there is none.
        """
        self._asked = sum(map(len, questions.prompts().values()))
        self._pace = Pace(
            {
                "answering": self._asked,
                "recording": self._asked,
                "calibrating": calibration_answers,
            },
            answer_tokens=questions.max_new_tokens,
            calibration_tokens=settings.max_new_tokens,
        )
        self._at = time.monotonic()

    def begin(self) -> None:
        """Begin a part; what came before it was not its work."""
        self._at = time.monotonic()

    def show(self, bar: "tqdm[NoReturn]", work: Work, done: float, total: float) -> None:
        """Take note of how far a part is, in its own units, and show the time left for all."""
        now = time.monotonic()
        if work == "recording":  # counts tokens, is planned in answers
            done, total = self._asked * done / max(1.0, total), self._asked
        self._pace.advance(work, done, total, seconds=now - self._at)
        self._at = now
        if (left := self._pace.left_s) is not None:
            bar.set_postfix_str(f"whole set: {in_words(left)} left", refresh=False)


def in_words(seconds: float) -> str:
    """Return a duration no finer than it can be known."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
