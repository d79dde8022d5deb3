"""What counts as language, and where lines and sentences end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.countable_text import (
    countable_text,
    find_open_fence,
    is_broken_off,
    split_lines,
    split_sentences,
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Voir `main.py` ici", "Voir ici"),
        ("a\n```py\ncode\n```\nb", "a b"),
        ("a\n~~~\n```\ncode\n~~~\nb", "a b"),
        ("a\n```\nopen to the end", "a"),
        ("[le site](https://example.com/x) est là", "[le site est là"),
        ("www.example.com est là", "est là"),
        ("écrire à a.b@example.co.uk maintenant", "écrire à maintenant"),
        ("请访问example.com吧", "请访问 吧"),
        ("Le film « Good Morning » plaît", "Le film plaît"),
        ("彼は「ハリー」と言う", "彼は と言う"),
        ("“Bonjour tout le monde.” dit-il", "“Bonjour tout le monde.” dit-il"),
        ("“Bonjour”", "“Bonjour”"),
        ("猫が3匹います", "猫が 匹います"),
        ("appeler load_model() ou v2", "appeler ou"),
        ("<b>gras</b>&nbsp;ici", "gras ici"),
        ("Ｈｉ", "Hi"),
        ("e\u0301te\u0301", "été"),
        ("a\u200bb\ud800c", "ab c"),
    ],
)
def test_what_counts(text: str, kept: str) -> None:
    assert countable_text(text).split() == kept.split()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Il dort. Elle lit !", ["Il dort.", "Elle lit !"]),
        ("猫です。犬です。", ["猫です。", "犬です。"]),
        ("वह सो रही है। ठीक है।", ["वह सो रही है।", "ठीक है।"]),
        ("هل أنت هنا؟ نعم.", ["هل أنت هنا؟", "نعم."]),
        ("3.5 kg\nfin", ["3.5 kg", "fin"]),
        ("", []),
    ],
)
def test_sentences_end_at_closing_punctuation(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    "text",
    [
        "Le film « Good Morning.",
        "Le film “Good.",
        "Le film „Good.",
        'Le film "Good.',
        'Il dit "oui". Le film "Good.',
        "映画「おはよう。",
        "Voir `main.",
        "Oui.\nVoir ``main.",
        "Voir www.example.",
        "Écrire à a@example.",
    ],
)
def test_what_may_yet_be_a_name_or_an_address_is_broken_off(text: str) -> None:
    assert is_broken_off(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Il dort.",
        "Le film « Good Morning ». Oui.",
        'Il dit "oui".',
        "映画「おはよう」。",
        "« Un discours de plus de trente lettres. Oui.",
        "Voir « le\nfilm.",
        "Voir `main.py`.",
        "```",
        "```python",
        "Voir www.example.com est là.",
        "C'est fini...",
    ],
)
def test_other_text_is_not_broken_off(text: str) -> None:
    assert not is_broken_off(text)


@pytest.mark.parametrize(
    ("text", "fence"),
    [
        ("", ""),
        ("a\n```py\ncode", "```"),
        ("a\n```py\ncode\n```", ""),
        ("~~~~\n```\n~~~", "~~~~"),
        ("> ```", "```"),
        ("a ```", ""),
    ],
)
def test_open_fence_is_found(text: str, fence: str) -> None:
    assert find_open_fence(text) == fence


@given(
    st.lists(st.sampled_from(["```", "~~~~", "~~~", "Il dort.", "```py", ""]), max_size=12),
    st.integers(0, 12),
)
def test_text_in_two_parts_counts_as_one(lines: list[str], at: int) -> None:
    first, second = "\n".join(lines[:at]), "\n".join(lines[at:])
    fence = find_open_fence(first)

    parts = [countable_text(first), countable_text(second, open_fence=fence)]

    assert "\n".join(parts).split() == countable_text("\n".join(lines)).split()
    assert find_open_fence(second, before=fence) == find_open_fence("\n".join(lines))


@given(st.text(st.characters(), max_size=300))
def test_lines_stay_lines(text: str) -> None:
    """The verdict of a line must be shown beside that line."""
    assert len(countable_text(text).split("\n")) == max(1, len(split_lines(text)))
