"""Renders a report card as one HTML file that needs no other and asks no host for anything.

Plots are SVG in data URIs, in a light and a dark twin. Every text is escaped by the template
engine, and the page forbids itself to load or run anything.
"""

import base64
from pathlib import Path

from steering.report_card.card import ReportCard
from steering.report_card.plots import Theme, to_svg
from steering.report_card.sections import make_sections, summarise

_TEMPLATE = Path(__file__).with_name("page.html")


def to_html(card: ReportCard) -> str:
    """Return the page; the same card gives the same text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    sections = [
        (section, [(plot.alt, _data_uris(to_svg(plot))) for plot in section.plots])
        for section in make_sections(card)
    ]
    return template.render(card=card, summary=summarise(card), sections=sections)


def _data_uris(drawn: dict[Theme, str]) -> dict[Theme, str]:
    return {
        theme: "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        for theme, svg in drawn.items()
    }
