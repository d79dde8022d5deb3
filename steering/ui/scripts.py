"""What the browser does by itself on the page: a script per file in `scripts/`, for the head.

Knows the scripts and their words, no component.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent / "scripts"


def scripts_html() -> str:
    """Return the elements of the page's head that begin the scripts."""
    return "".join(
        f"<script>({(_FOLDER / name).read_text(encoding='utf-8')})();</script>"
        for name in ("copy_plainly.js", "name_parts.js")
    )
