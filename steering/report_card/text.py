"""Renders a report card for a terminal: words and tables in plain columns."""

from steering.report_card.card import ReportCard
from steering.report_card.sections import Table, make_sections, summarise


def to_text(card: ReportCard) -> str:
    """Return the card as lines of text."""
    width = max(map(len, card.facts))
    blocks = [
        "\n".join(f"{name.ljust(width)}  {value}" for name, value in card.facts.items()),
        summarise(card),
        "\n".join(f"warning: {warning.message}" for warning in card.warnings),
    ]
    for section in make_sections(card):
        blocks += [f"{section.heading}\n{'-' * len(section.heading)}\n{section.words}"]
        blocks += [_lay_out(table) for table in section.tables]
    return "\n\n".join(filter(None, blocks))


def _lay_out(table: Table) -> str:
    """Return a table in columns: names to the left, numbers to the right."""
    shown = table.rows[: table.rows_in_terminal]
    rows = [table.header, *shown]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, table.is_number, strict=True)
        ).rstrip()
        for row in rows
    ]
    if hidden := len(table.rows) - len(shown):
        lines.append(f"... and {hidden} more; `--html` shows all")
    return "\n".join(lines)
