"""Says whether the last number of a reply is the right one, as MGSM's answers are judged.

Source: Shi et al. 2022, MGSM (arXiv 2210.03057). Differs: no prefix such as "The answer is" is
looked for, as nobody was told to write it.
"""

import re
import unicodedata

# Digits of any script, with what separates groups of thousands or decimals within.
_NUMBER = re.compile(
    r"(?<!\d)\d{1,3}(?:[\u00a0\u202f ]\d{3})+(?!\d)(?:[.,٫]\d+)?|\d(?:[\d.,'’٬٫]*\d)?"
)
_GROUPS = re.compile(r"\d{1,3}(?:[.,'’٬ \u00a0\u202f]\d{3})+")


def is_last_number(reply: str, *, number: str) -> bool:
    """Say whether the last number of a reply is *number*; signs before it do not matter.

    Groups of thousands may be separated by a comma, point, space or apostrophe, and decimals by a
    comma or point; where a text can be read both ways ("1.234"), either reading counts.

    Args:
        reply: The whole reply, in any language and any digits.
        number: The right answer, with a decimal point if any.
    """
    found = _NUMBER.findall(unicodedata.normalize("NFKC", reply))
    return bool(found) and abs(float(number.replace(",", ""))) in _readings(found[-1])


def _readings(text: str) -> set[float]:
    """Return what a number as written may mean."""
    digits = "".join(str(int(c)) if c.isdigit() else c for c in text)
    readings = set()
    if _GROUPS.fullmatch(digits) or digits.isdigit():
        readings.add(float(re.sub(r"\D", "", digits)))
    whole, decimals = re.fullmatch(r"(.*?)(?:[.,٫](\d+))?", digits, re.DOTALL).groups()  # type: ignore[union-attr]
    if whole.isdigit() or _GROUPS.fullmatch(whole):
        readings.add(float(f"{re.sub(r'[^0-9]', '', whole)}.{decimals or 0}"))
    return readings
