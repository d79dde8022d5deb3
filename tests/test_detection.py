"""Verdicts on replies: fifteen languages, lines, sentences, threads and hostile input."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from steering.detection import detect, identify_reply, language_of_prompt
from steering.languages import LANGUAGES, Language
from tests.texts import TEXTS

FIFTEEN = [LANGUAGES[code] for code in TEXTS]
SEVEN = [LANGUAGES[code] for code in ("en", "zh", "fr", "es", "vi", "id", "ja")]
FRENCH, JAPANESE, CHINESE = LANGUAGES["fr"], LANGUAGES["ja"], LANGUAGES["zh"]


@pytest.mark.parametrize("code", TEXTS)
@pytest.mark.parametrize("languages", [SEVEN, FIFTEEN, list(LANGUAGES.values())])
def test_short_answers_in_the_target_language_are_on_target(
    code: str, languages: list[Language]
) -> None:
    expected = LANGUAGES[code]

    replies = [detect(text, expected=expected, languages=languages) for text in TEXTS[code]]

    assert [reply.language for reply in replies] == [expected] * len(replies)
    assert {reply.verdict for reply in replies} == {"on_target"}


@pytest.mark.parametrize("code", TEXTS)
def test_language_of_a_prompt_is_that_of_its_words(code: str) -> None:
    found = {language_of_prompt(text, languages=FIFTEEN) for text in TEXTS[code]}

    assert found == {LANGUAGES[code]}


@pytest.mark.parametrize("text", ["", "7 + 6", "https://example.org", "ok"])
def test_language_of_a_prompt_without_words_is_not_decided(text: str) -> None:
    assert language_of_prompt(text, languages=FIFTEEN) is None


@pytest.mark.parametrize("code", TEXTS)
def test_short_answers_in_another_language_are_off_target(code: str) -> None:
    others = [language for language in SEVEN if language.code != code]

    verdicts = [
        detect(text, expected=expected, languages=FIFTEEN).verdict
        for text in TEXTS[code]
        for expected in others
    ]

    assert set(verdicts) == {"off_target"}


@pytest.mark.parametrize("code", TEXTS)
def test_no_single_sentence_is_a_false_alarm(code: str) -> None:
    found = Counter(
        line.verdict
        for text in TEXTS[code]
        for line in detect(text, expected=LANGUAGES[code], languages=FIFTEEN, unit="sentence").lines
    )

    assert found["off_target"] == 0


@pytest.mark.parametrize("code", TEXTS)
def test_several_lines_are_judged_one_by_one(code: str) -> None:
    other = "en" if code != "en" else "fr"
    text = f"{TEXTS[code][0]}\n\n{TEXTS[other][0]}\n{TEXTS[code][1]}"

    reply = detect(text, expected=LANGUAGES[code], languages=FIFTEEN)

    assert [line.verdict for line in reply.lines] == ["on_target", "off_target", "on_target"]
    assert reply.lines[1].language == LANGUAGES[other]
    assert reply.verdict == "off_target"
    assert not reply.has_only_target_lines


@pytest.mark.parametrize("word", ["Bonjour.", "Oui.", "Merci !", "OK", "Paris", "Wi-Fi", "Ah"])
@pytest.mark.parametrize("expected", SEVEN)
def test_a_word_alone_is_never_off_target(word: str, expected: Language) -> None:
    reply = detect(word, expected=expected, languages=FIFTEEN)

    assert reply.verdict in {"too_short", "on_target"}


@pytest.mark.parametrize(
    ("text", "code"),
    [("こんにちは", "ja"), ("你好吗", "zh"), ("안녕", "ko"), ("привет", "ru"), ("नमस्ते", "hi")],
)
def test_a_decisive_script_needs_one_word(text: str, code: str) -> None:
    assert detect(text, expected=LANGUAGES[code], languages=FIFTEEN).verdict == "on_target"
    assert detect(text, expected=FRENCH, languages=FIFTEEN).verdict == "off_target"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\t\n",
        "12 + 30 = 42",
        "🎉🎉 👍🏽",
        "...!?",
        "https://example.com/this/is/english/text",
        "<someone.of.them@example.org>",
        "```python\nprint('this is an English sentence')\n```",
        "```\nthis fence is still open and says English things",
        "`this is inline code in English`",
        "\u200f\u202e\u0007",
    ],
)
def test_text_without_language_is_no_language(text: str) -> None:
    reply = detect(text, expected=FRENCH, languages=FIFTEEN)

    assert (reply.verdict, reply.language, reply.confidence) == ("no_language", None, 0.0)


@pytest.mark.parametrize(
    "extra",
    [
        "```python\nfor this in that: print('an English sentence, rather long')\n```",
        "https://example.com/some/english/words/in/a/long/address",
        "Le film « Good Morning » est drôle, il me plaît.",
        "`the quick brown fox jumps over the lazy dog`",
        "someone@example.com",
    ],
)
def test_code_addresses_and_names_do_not_change_the_verdict(extra: str) -> None:
    text = f"{TEXTS['fr'][0]}\n{extra}\n{TEXTS['fr'][1]}"

    reply = detect(text, expected=FRENCH, languages=FIFTEEN)

    assert reply.verdict == "on_target"
    assert reply.language == FRENCH


def test_han_line_within_a_japanese_reply_is_japanese() -> None:
    reply = detect("東京の人口は多いです。\n人口密集都市", expected=JAPANESE, languages=SEVEN)

    assert [line.language for line in reply.lines] == [JAPANESE, JAPANESE]
    assert reply.verdict == "on_target"


def test_chinese_reply_to_a_japanese_request_is_off_target() -> None:
    reply = detect("我不知道。问老师吧。", expected=JAPANESE, languages=SEVEN)

    assert (reply.verdict, reply.language) == ("off_target", CHINESE)


def test_few_han_signs_are_no_false_alarm_for_japanese() -> None:
    assert detect("東京", expected=JAPANESE, languages=SEVEN).verdict == "too_short"
    assert detect("東京", expected=CHINESE, languages=SEVEN).verdict == "on_target"


def test_a_decorative_kana_does_not_make_chinese_japanese() -> None:
    reply = detect("鲜の每日，我们的水果店今天开门了。", expected=CHINESE, languages=SEVEN)

    assert reply.verdict == "on_target"


def test_english_is_considered_even_if_it_is_not_in_play() -> None:
    reply = detect(TEXTS["en"][0], expected=FRENCH, languages=[FRENCH, JAPANESE])

    assert (reply.verdict, reply.language) == ("off_target", LANGUAGES["en"])


@pytest.mark.parametrize("languages", [SEVEN, SEVEN[2:5]])
def test_only_languages_in_play_are_named(languages: list[Language]) -> None:
    texts = [text for texts in TEXTS.values() for text in texts]

    found = {identify_reply(text, languages=languages).language for text in texts}

    assert found <= {*languages, None}


def test_foreign_script_is_off_target_without_a_language() -> None:
    reply = detect("שלום, מה שלומך היום?", expected=FRENCH, languages=SEVEN)

    assert (reply.verdict, reply.language) == ("off_target", None)


def test_same_answer_in_every_thread_and_every_order() -> None:
    jobs = [(text, code) for code, texts in TEXTS.items() for text in texts[:3]] * 3

    def run(job: tuple[str, str]) -> tuple[object, ...]:
        languages = FIFTEEN if len(job[0]) % 2 else FIFTEEN[::-1]
        reply = detect(job[0], expected=LANGUAGES[job[1]], languages=languages)
        return (reply.language, reply.confidence, reply.verdict, reply.lines)

    alone = [run(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(run, jobs))

    assert together == alone


def test_latin_words_are_listed_for_other_scripts_only() -> None:
    japanese = detect("猫はsleepingです。Tokyoのcat。", expected=JAPANESE, languages=SEVEN)
    french = detect(TEXTS["fr"][0], expected=FRENCH, languages=SEVEN)

    assert japanese.latin_words == ("sleeping",)
    assert french.latin_words == ()


def test_switch_within_a_line_shows_by_sentence() -> None:
    text = "Le chat est sur le canapé du salon. The dog sleeps under the old table."

    reply = detect(text, expected=FRENCH, languages=SEVEN, unit="sentence")

    assert [line.verdict for line in reply.lines] == ["on_target", "off_target"]
    assert reply.verdict == "off_target"


def test_composed_and_decomposed_text_are_the_same() -> None:
    import unicodedata

    for code in ("vi", "fr", "ko"):
        for text in TEXTS[code]:
            split = unicodedata.normalize("NFD", text)
            forms = [
                detect(form, expected=LANGUAGES[code], languages=SEVEN) for form in (text, split)
            ]
            assert forms[0].confidence == forms[1].confidence


@pytest.mark.parametrize("noise", ["\ud800", "\x00", "\u200b", "\u202e", "\ufeff"])
def test_surrogates_and_control_characters_do_no_harm(noise: str) -> None:
    text = noise.join(["", *TEXTS["fr"][0].split(" "), ""]).replace(noise, f" {noise}")

    assert detect(text, expected=FRENCH, languages=SEVEN).verdict == "on_target"


@pytest.mark.parametrize(
    "piece", ["Le chat dort. ", "猫", "`", "“", "a@", "a.", "[](", "<a ", "x\n", "a(b_", "1a", "ﷺ"]
)
def test_a_hundred_thousand_characters_are_judged(piece: str) -> None:
    text = (piece * 100_000)[:100_000]

    reply = detect(text, expected=FRENCH, languages=SEVEN)

    assert 0.0 <= reply.confidence <= 1.0


def test_an_identifier_of_ones_own_is_asked_where_scripts_are_shared() -> None:
    class AlwaysSpanish:
        def identify(self, text: str) -> tuple[str | None, float]:
            return "es", 1.0

    text = f"{TEXTS['fr'][0]}\n{TEXTS['ja'][0]}"

    reply = detect(text, expected=FRENCH, languages=SEVEN, identifier=AlwaysSpanish())

    assert [line.language for line in reply.lines] == [LANGUAGES["es"], JAPANESE]


def test_an_identifier_that_names_an_unknown_code_yields_no_language() -> None:
    class Odd:
        def identify(self, text: str) -> tuple[str | None, float]:
            return "xx", 0.2

    guess = identify_reply(TEXTS["fr"][0], languages=SEVEN, identifier=Odd())

    assert guess.language is None
