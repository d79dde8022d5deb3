"""Words of another script inside an answer: which are found, where, and which decide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.detection import detect
from steering.intrusions import find_intrusions
from steering.languages import LANGUAGES

ALL = list(LANGUAGES.values())


@pytest.mark.parametrize(
    ("text", "code", "found"),
    [
        ("오늘은 天氣가 아주 좋습니다.", "ko", ["天氣"]),
        ("今天我们去公园散步，погода很好。", "zh", ["погода"]),
        ("昨天的会议很长，하지만 결과는 좋았다。", "zh", ["하지만", "결과는", "좋았다"]),
        ("The soup needs more 盐巴 before we eat.", "en", ["盐巴"]),
        ("ذهبنا إلى المدрسة صباح اليوم.", "ar", []),  # one letter may be a slip of the eye
        ("ذهبنا إلى المдрسة صباح اليوم.", "ar", ["др"]),
        ("Сегодня мы идём в кино вечером.", "ru", []),
        ("今日は映画を見に行きます。", "ja", []),
        ("今天去看电影，晚上回家。", "zh", []),
        ("아침에 breakfast를 먹었어요.", "ko", ["breakfast"]),
    ],
)
def test_words_of_another_script_are_found(text: str, code: str, found: list[str]) -> None:
    intrusions = find_intrusions(text, expected=LANGUAGES[code])

    assert [one.text for one in intrusions] == found


def test_places_are_those_of_the_text_as_written() -> None:
    text = "Voici le plan.\nIl coûte 便宜 et il est `直接` prêt, 真的."

    intrusions = find_intrusions(text, expected=LANGUAGES["fr"])

    assert [(one.text, one.script, one.line) for one in intrusions] == [
        ("便宜", "Hani", 1),
        ("真的", "Hani", 1),
    ]
    line = text.split("\n")[1]
    for one in intrusions:
        assert one.start is not None
        assert line[one.start : one.start + len(one.text)] == one.text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("서울(漢城)은 큰 도시입니다.", "ko"),
        ("La plus grande ville de ce pays est Tokyo (東京), et elle est aussi très belle.", "fr"),
        ("Le mot « 你好 » veut dire bonjour en chinois.", "fr"),
        ("L'angle α vaut trente degrés dans ce triangle.", "fr"),
        ("我喜欢看高达（ガンダム）的动画。", "zh"),
        ("他写了一本书，书名是ノルウェイ。", "zh"),
        ("美 대통령이 오늘 방문했습니다.", "ko"),
        ("Я пишу код на языке Python каждый день.", "ru"),
        ("Запустите `git push` в каталоге проекта.", "ru"),
        ("毎日TypeScriptとReactを使います。", "ja"),
    ],
)
def test_glosses_names_symbols_and_code_do_not_decide(text: str, code: str) -> None:
    intrusions = find_intrusions(text, expected=LANGUAGES[code])

    assert not [one for one in intrusions if one.is_decisive]
    assert detect(text, expected=LANGUAGES[code], languages=ALL).verdict == "on_target"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("오늘은 天氣가 아주 좋습니다, 그래서 산책하러 갑니다.", "ko"),
        ("每天早上我都喝一杯咖啡，потом去上班。", "zh"),
        ("The soup needs more 盐巴 before we eat it together.", "en"),
        ("ذهبنا إلى المдрسة صباح اليوم مع الأصدقاء.", "ar"),
        ("Le train part à midi, 但是 il est souvent en retard.", "fr"),
    ],
)
def test_a_mixed_answer_is_off_target(text: str, code: str) -> None:
    verdict = detect(text, expected=LANGUAGES[code], languages=ALL)

    assert verdict.verdict == "off_target"
    assert verdict.language == LANGUAGES[code]
    assert any(one.is_decisive for one in verdict.intrusions)


@given(st.text(max_size=80), st.sampled_from(["fr", "ja", "zh", "ko", "ar", "ru"]))
def test_every_place_holds_its_letters(text: str, code: str) -> None:
    for one in find_intrusions(text, expected=LANGUAGES[code]):
        line = text.splitlines()[one.line]
        assert one.start is None or line[one.start : one.start + len(one.text)] == one.text
