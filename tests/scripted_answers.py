"""What a chat model that commands some languages would answer, for tests without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steering.everyday_prompts import instruction
from steering.languages import LANGUAGES
from tests.texts import TEXTS


def script_answers(*commanded: str) -> Callable[[Sequence[str]], list[str]]:
    """Return what answers in the language that is asked for if it is commanded, else in English."""
    endings = {
        instruction(LANGUAGES[code], in_english=in_english): code
        for code in TEXTS
        for in_english in (True, False)
    }

    def answer(prompt: str) -> str:
        code = next(endings[text] for text in sorted(endings, key=len) if prompt.endswith(text))
        own = TEXTS[code if code in commanded else "en"]
        return own[len(prompt) % len(own)]

    return lambda prompts: [answer(prompt) for prompt in prompts]
