"""Languages by letters and words."""

import pytest

from steering.identification import ProfileIdentifier, identify_text, load_profile
from steering.languages import LANGUAGES
from tests.texts import TEXTS


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Қазақстан үлкен ел, біз оны жақсы көреміз.", "kk"),
        ("Я люблю тебе і маму, вона дуже добра.", "uk"),
        ("Я люблю тебя и маму, она очень добрая.", "ru"),
        ("سلام دوست من، حال شما چطور است؟", "fa"),
        ("مرحبا يا صديقي، كيف حالك اليوم؟", "ar"),
        ("แมวอยู่บนโซฟา", "th"),
        ("კატა დივანზეა", "ka"),
        ("Η γάτα κοιμάται", "el"),
        ("བོད་སྐད་ནི་སྐད་ཡིག་ཅིག་རེད།", "bo"),
        ("Il-qattus qiegħed jorqod fuq is-sufan tagħna, ġo d-dar.", "mt"),
        ("De kat ligt op de bank. Hij slaapt.", "nl"),
        ("Katten ligger i soffan och sover. Den är inte hungrig.", "sv"),
        ("Kot leży na kanapie. On śpi.", "pl"),
        ("Pisica este pe canapea. Ea doarme.", "ro"),
        ("Paka yuko juu ya kiti. Analala.", "sw"),
    ],
)
def test_the_other_languages_of_the_table_are_told_apart(text: str, code: str) -> None:
    guess = identify_text(text, languages=list(LANGUAGES.values()))

    assert guess.language == LANGUAGES[code]


def test_order_of_the_codes_does_not_change_the_answer() -> None:
    forward, backward = ProfileIdentifier(["en", "fr", "es"]), ProfileIdentifier(["es", "fr", "en"])

    for text in TEXTS["fr"]:
        code, confidence = forward.identify(text)
        assert backward.identify(text) == (code, pytest.approx(confidence, abs=1e-12))


def test_capitals_are_read() -> None:
    identifier = ProfileIdentifier(["en", "fr", "es"])

    assert identifier.identify("LE CHAT EST SUR LE CANAPÉ")[0] == "fr"


def test_text_without_features_has_no_language() -> None:
    assert ProfileIdentifier(["en", "fr"]).identify("123 !") == (None, 0.0)
    assert ProfileIdentifier(["kk", "mt"]).identify("hello") == (None, 0.0)


@pytest.mark.parametrize("code", ["kk", "zz", "../../etc/passwd", ""])
def test_a_code_without_profile_yields_an_empty_one(code: str) -> None:
    assert load_profile(code) == {}


def test_frequencies_of_a_profile_are_shares() -> None:
    profile = load_profile("fr")

    assert profile
    assert all(0.0 < frequency < 1.0 for frequency in profile.values())
