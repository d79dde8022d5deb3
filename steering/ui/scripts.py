"""What the browser does by itself on the page: a script per file in `scripts/`, for the head.

Knows the scripts and their words, no component.
"""

import json
from pathlib import Path

from steering.ui.strings import LOCALES, say

_FOLDER = Path(__file__).parent / "scripts"

# Which scripts there are, and the texts that they are given, by locale.
_SCRIPTS = {
    "copy_plainly.js": (),
    "keep_focus.js": (),
    "name_parts.js": (),
    "watch_server.js": ("server_gone", "server_back", "reload_page"),
}


def in_place(name: str) -> str:
    """Return the class of buttons of which one takes the other's place, such as Send and Stop.

    By it the browser keeps the focus, and knows of a Stop that something is being written; it is
    to stand on no other buttons.
    """
    return f"in-place-{name}"


def scripts_html() -> str:
    """Return the elements of the page's head that begin the scripts."""
    return "".join(_script_html(name, keys) for name, keys in _SCRIPTS.items())


def _script_html(name: str, keys: tuple[str, ...]) -> str:
    source = (_FOLDER / name).read_text(encoding="utf-8")
    words = {locale: {key: say(key, locale) for key in keys} for locale in LOCALES}
    given = json.dumps(words).replace("<", "\\u003c") if keys else ""
    return f"<script>({source})({given});</script>"
