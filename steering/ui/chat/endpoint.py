"""The endpoint `/chat`: one message answered for a program, with all choices that the page has.

Knows no components.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import gradio as gr

from steering.conversation import Message
from steering.ui.asking import Chat, Wish
from steering.ui.chat.turns import check_text
from steering.ui.parameters import check_seed, refuse_other_kinds
from steering.ui.sessions import OpenSessions
from steering.ui.wording import errors_for_programs


def make_endpoint(chat: Chat) -> Callable[..., Iterator[str]]:
    """Return what `/chat` calls; its signature and docstring are the API's documentation."""
    sessions = OpenSessions()

    def answer(  # noqa: PLR0913, PLR0917 - one for each choice, in an order that has to stay
        message: str,
        language: str = "none",
        steering: str = "normal",
        guard: bool = True,
        method: str = "",
        damping: bool = False,
        length: int = 0,
        creativity: float = 0.0,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> Iterator[str]:
        """Answer a message in a chosen language; streams the answer so far.

        One request per session at a time.

        Args:
            message: The message, in any language.
            language: Code of the answer's language, such as `fr`; `none` forces none.
            steering: off, gentle, normal or strong.
            guard: Whether a passage in another language is written again.
            method: How it is steered, such as `diffmean`; empty for the neuron set's own.
            damping: Whether other languages' neurons are damped as well.
            length: Tokens of the answer at most; 0 for as many as the server allows.
            creativity: The temperature; 0 takes the likeliest token, always.
            seed: Of what is drawn.
            request: Who asks; filled in by gradio.
        """
        with errors_for_programs(), sessions.answering(request):
            refuse_other_kinds({"message": message}, str, "a text")
            check_text(message)
            rest = Wish(None, "normal", method, damping, guard, length, creativity, seed)
            wish = chat.read_wish(language, steering, _checked(rest))
            for update in chat.answer([Message("user", message)], wish):
                yield update.texts[0]

    return answer


def _checked(given: Wish) -> Wish:
    """Return the wish that a program's values make, once they are of the kinds that they should be.

    Raises:
        GenerationError: If one is not.
    """
    refuse_other_kinds({"method": given.method}, str, "a text")
    refuse_other_kinds(
        {"guard": given.has_guard, "damping": given.is_damped}, bool, "true or false"
    )
    refuse_other_kinds({"length": given.max_new_tokens}, int, "a whole number")
    refuse_other_kinds({"creativity": given.temperature}, (int, float), "a number")
    check_seed(given.seed)
    return replace(given, max_new_tokens=given.max_new_tokens or None)
