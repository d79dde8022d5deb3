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
_STYLE = Path(__file__).with_name("page.css")


def to_html(card: ReportCard) -> str:
    """Return the page; the same card gives the same text."""
    sections = [
        (section, [(plot.alt, _data_uris(to_svg(plot))) for plot in section.plots])
        for section in make_sections(card)
    ]
    return fill_template(_TEMPLATE, card=card, summary=summarise(card), sections=sections)


def fill_template(template: Path, **values: object) -> str:
    """Return a page of a template, whose every value is escaped; `style` is that of a report card.

    Args:
        template: A Jinja file.
        values: What it names.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = Markup(_STYLE.read_text(encoding="utf-8"))  # noqa: S704 - a file of our own
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        style=style, **values
    )


def svg_uri(svg: str) -> str:
    """Return an SVG as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _data_uris(drawn: dict[Theme, str]) -> dict[Theme, str]:
    return {theme: svg_uri(svg) for theme, svg in drawn.items()}
