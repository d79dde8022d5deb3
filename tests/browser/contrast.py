"""The contrast of colours on a page, as WCAG 2 has it."""

from __future__ import annotations

import re

from playwright.sync_api import Locator


def contrast(badge: Locator) -> float:
    """The contrast of a badge's text to its ground, as WCAG 2 has it; 0 if it shines through."""
    seen = badge.evaluate(
        "node => { let o = 1; for (; node; node = node.parentElement)"
        " o *= getComputedStyle(node).opacity; return o }"
    )
    if seen < 1:
        return 0
    colours = badge.evaluate(
        "node => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor]"
    )
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
