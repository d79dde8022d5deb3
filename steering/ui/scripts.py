"""What the browser does by itself on the page: a script per file in `scripts/`, for the head.

Knows the scripts and their words, no component.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent / "scripts"


def in_place(name: str) -> str:
    """Return the class of buttons of which one takes the other's place, such as Send and Stop.

    By it the browser keeps the focus; it is to stand on no other buttons.
    """
    return f"in-place-{name}"


def scripts_html() -> str:
    """Return the elements of the page's head that begin the scripts."""
    return "".join(
        f"<script>({(_FOLDER / name).read_text(encoding='utf-8')})();</script>"
        for name in ("copy_plainly.js", "keep_focus.js")
    )
