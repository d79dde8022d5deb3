"""Runs axe-core on a page and says in words what it finds serious or critical.

Knows browsers' pages, not what is on ours but for what `TOLERATED` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


@dataclass(frozen=True)
class Tolerated:
    """A finding that is Gradio's and cannot be mended from our page.

    Args:
        rule: Id of axe's rule.
        selector: Matches the elements that it is about, and no others.
        reason: Why it stands.
    """

    rule: str
    selector: str
    reason: str


TOLERATED = (
    Tolerated(
        "aria-required-children",
        "#chat .examples",
        "Gradio's Chatbot has a list of buttons, without list items; each button says its number.",
    ),
    Tolerated(
        "label-title-only",
        ".search-input",
        "Gradio's Dataframe names its search by a title and a placeholder, and takes no label.",
    ),
    Tolerated(
        "nested-interactive",
        ".toast-header",
        "Gradio's warnings close at a click anywhere; the button within them does the same.",
    ),
)


def find_violations(page: Page) -> list[str]:
    """Return what axe finds serious or critical on a page as it is, one sentence per element."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: "
        f"{' '.join(map(str, node['target']))}: {node['html'][:200]}: {_why(node)}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
        if not _is_tolerated(page, violation["id"], node)
    ]


def _is_tolerated(page: Page, rule: str, node: dict[str, Any]) -> bool:
    (target,) = node["target"]  # none of our page is in a frame
    return any(
        one.rule == rule
        and page.evaluate(
            "([target, selector]) => document.querySelector(target)?.matches(selector) ?? false",
            [target, one.selector],
        )
        for one in TOLERATED
    )


def _why(node: dict[str, Any]) -> str:
    checks = [*node.get("any", ()), *node.get("all", ()), *node.get("none", ())]
    return "; ".join(check["message"] for check in checks)
