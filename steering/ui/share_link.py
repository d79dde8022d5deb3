"""A button that copies a link to the choices, made and copied by the browser alone.

Knows components and the function that makes the link, not what the choices mean.
"""

import json
from collections.abc import Sequence
from html import escape

import gradio as gr
from gradio.components import Component

from steering.ui.strings import LOCALES, label, say

_KEYS = ("link_field", "link_copied", "link_by_hand")


def offer_link(components: Sequence[Component], make_link_js: str) -> None:
    """Add the button and, unseen until it is pressed, the link and what came of it.

    Args:
        components: Whose values make the link.
        make_link_js: The function of the browser that makes it of them.
    """
    button = gr.Button(label("copy_link"), size="sm", min_width=110, elem_id="copy-link")
    gr.HTML(_field_html(), elem_id="link", padding=False)
    button.click(
        None, list(components), None, js=_copy_js(make_link_js),
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip


def _field_html() -> str:
    """Return a field to read and copy from, and words that are read out when they come."""
    name = escape(say("link_field"))
    return f'<p role="status"></p><input readonly hidden aria-label="{name}">'


def _copy_js(make_link_js: str) -> str:
    """Return the function that copies the link, or shows it to be copied where that is refused.

    The words are in the language that gradio has chosen for the page.
    """
    words = {locale: {key: say(key, locale) for key in _KEYS} for locale in LOCALES}
    return (
        f"async (...values) => {{ const link = ({make_link_js})(...values); "
        f"const words = {json.dumps(words)}; "
        "const own = words[document.documentElement.lang.split('-')[0]] || words.en; "
        "const field = document.querySelector('#link input'); "
        "let isCopied = true; "
        "try { await navigator.clipboard.writeText(link); } catch { isCopied = false; } "
        "field.value = link; field.ariaLabel = own.link_field; field.hidden = false; "
        "document.querySelector('#link [role=status]').textContent = "
        "isCopied ? own.link_copied : own.link_by_hand; "
        "if (!isCopied) { field.focus(); field.select(); } "
        "return []; }"
    )
