"""Writes numbers with their sign, as tables and figures show changes. Knows not what they are."""


def format_signed(value: float, *, digits: int) -> str:
    """Return the number with a sign; what rounds to nothing is `+0.00`, never `-0.00`."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # -0.0 + 0.0 is 0.0


def format_nats(change: float) -> str:
    """Return a change in nats per token, as tables and sentences show it."""
    return format_signed(change, digits=3)
