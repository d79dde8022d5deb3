"""Numbers are read as people of many countries write them."""

import pytest

from steering.evaluation.last_number import is_last_number

RIGHT = [
    ("She makes 18 dollars.", "18"),
    ("9 * 2 = **18**", "18"),
    ("Il gagne 70 000 $.", "70000"),
    ("70.000 Euro", "70000"),
    ("1,234,567", "1234567"),
    ("1.5 liters", "1.5"),
    ("12,50 €", "12.5"),
    ("१८ डॉलर", "18"),
    ("１８個です", "18"),
    ("In 1990 there were 250", "250"),
    ("1990 250", "250"),
    ("-5", "-5"),
    ("18.", "18"),
    ("8'000 Franken", "8,000"),
]
WRONG = [("", "3"), ("three", "3"), ("3 or 4", "3"), ("1800", "18"), ("1.8", "18"), ("18,5", "18")]


@pytest.mark.parametrize(("reply", "number"), RIGHT)
def test_a_right_number_is_found_however_it_is_written(reply: str, number: str) -> None:
    assert is_last_number(reply, number=number)


@pytest.mark.parametrize(("reply", "number"), WRONG)
def test_another_number_is_not_taken_for_it(reply: str, number: str) -> None:
    assert not is_last_number(reply, number=number)
