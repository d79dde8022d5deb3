"""Tests of the token bias: counts to log-odds, tokens to scripts, and both into `generate`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from steering.errors import PlanError, StatsError
from steering.languages import LANGUAGES
from steering.loading import BUNDLED_FOLDER
from steering.steering_plan import TokenBias
from steering.token_bias import (
    GENTLE_NATS,
    MARGIN_NATS,
    MIN_COUNT,
    SMOOTHING_SHARE,
    TokenBiasProcessor,
    TokenTable,
    make_token_bias,
    read_token_table,
    spared_prompt_ids,
    token_log_odds,
)
from tests.conftest import VOCAB_SIZE
from tests.texts import TEXTS

FR, JA, RU, EL = (LANGUAGES[code] for code in ("fr", "ja", "ru", "el"))
STRONG_NATS = 10.0
BOUNDS = (0.0, GENTLE_NATS, STRONG_NATS)
END = "</s>"


def make_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token per word; `</s>` begins and ends, and `ROLE` and `SPARE` are special too."""
    special = [END, "ROLE", "SPARE"]
    vocab = {word: number for number, word in enumerate([*special, *words])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token=END))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, 0)]
    )
    backend.add_special_tokens(["SPARE"])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token=END, additional_special_tokens=["ROLE"]
    )


def bias_of(words: Sequence[str], language: str, *, bound: float = STRONG_NATS) -> dict[str, float]:
    """The bias of each word, by scripts alone."""
    tokenizer = make_tokenizer(words)
    bias = make_token_bias(read_token_table(tokenizer), TokenBias(LANGUAGES[language], bound, None))
    return {word: float(bias[tokenizer.convert_tokens_to_ids(word)]) for word in words}


@cache
def bundled_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(BUNDLED_FOLDER)
    return tokenizer


@cache
def bundled_table() -> TokenTable:
    return read_token_table(bundled_tokenizer())


# Log-odds.


def test_log_odds_are_the_formula_by_hand() -> None:
    counts = torch.tensor([[30, 70, 0], [10, 10, 20], [5, 0, 95]])

    log_odds = token_log_odds(counts)

    shares = [[count / sum(row) + SMOOTHING_SHARE for count in row] for row in counts.tolist()]
    for language in range(3):
        for token in range(3):
            others = [shares[k][token] for k in range(3) if k != language]
            expected = math.log(shares[language][token]) - math.log(sum(others) / 2)
            assert float(log_odds[language, token]) == pytest.approx(expected, abs=1e-5)
    assert log_odds.dtype == torch.float32
    assert log_odds[0, 1] > 0 > log_odds[2, 1]


@given(
    rows=st.lists(
        st.lists(st.sampled_from([0, MIN_COUNT, 40, 3000]), min_size=4, max_size=4),
        min_size=2,
        max_size=4,
    ),
    times=st.integers(2, 1000),
)
def test_longer_recording_of_one_language_changes_nothing(
    rows: list[list[int]], times: int
) -> None:
    counts = torch.tensor(rows)
    longer = counts.clone()
    longer[0] *= times

    # Two roundings of shares in float64, one of the result to float32.
    assert torch.allclose(token_log_odds(longer), token_log_odds(counts), atol=1e-6)


def test_token_that_was_almost_never_seen_says_nothing() -> None:
    counts = torch.tensor([[1000, MIN_COUNT - 1, MIN_COUNT, 0], [1000, 0, 0, 0]])

    log_odds = token_log_odds(counts)

    assert log_odds[:, [1, 3]].abs().max() == 0
    assert log_odds[0, 2] > 0 > log_odds[1, 2]


def test_language_without_tokens_has_no_log_odds_and_is_nobodys_other() -> None:
    counts = torch.tensor([[900, 100], [100, 900]])
    with_empty = torch.cat([counts, torch.zeros(1, 2, dtype=torch.int64)])

    log_odds = token_log_odds(with_empty)

    assert torch.equal(log_odds[:2], token_log_odds(counts))
    assert torch.equal(log_odds[2], torch.zeros(2))


def test_one_language_alone_has_no_log_odds() -> None:
    assert torch.equal(token_log_odds(torch.tensor([[900, 100]])), torch.zeros(1, 2))


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), min_size=1, max_size=5))
def test_log_odds_are_always_numbers_within_what_smoothing_allows(rows: list[list[int]]) -> None:
    log_odds = token_log_odds(torch.tensor(rows))

    assert log_odds.isfinite().all()
    assert log_odds.abs().max() <= math.log((1 + SMOOTHING_SHARE) / SMOOTHING_SHARE) + 1e-4


def test_counts_of_another_shape_are_refused() -> None:
    with pytest.raises(StatsError, match=r"shape '\(3,\)'. Expected \(languages, vocab\)"):
        token_log_odds(torch.tensor([1, 2, 3]))


# The table and the bias by scripts.


@pytest.mark.parametrize(
    ("language", "own", "foreign"),
    [
        ("fr", ["chat", "été", "l'", "Don"], ["猫", "кот", "ねこ", "고양이", "قط", "γάτα"]),
        ("ja", ["猫", "ねこ", "カー", "Tシャツ"], ["chat", "кот", "고양이"]),
        ("zh", ["猫", "T恤"], ["ねこ", "カー", "猫です", "the"]),
        ("ko", ["고양이", "T셔츠"], ["猫", "the"]),
        ("hi", ["बिल्ली", "ि", "दो।"], ["ไทย", "the"]),
        ("ru", ["кот", "IT-отдел"], ["the", "γάτα", "котγ"]),
        ("ar", ["قط", "قِطٌّ"], ["the", "คน"]),
    ],
)
def test_letters_of_a_script_that_the_target_does_not_use_get_the_bound(
    language: str, own: list[str], foreign: list[str]
) -> None:
    found = bias_of(own + foreign, language)

    assert found == {**dict.fromkeys(own, 0.0), **dict.fromkeys(foreign, -STRONG_NATS)}


def test_vowel_sign_without_its_letter_has_a_script() -> None:
    assert bias_of(["ि", "ั"], "fr") == {"ि": -STRONG_NATS, "ั": -STRONG_NATS}


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_digits_signs_and_code_are_of_every_language(language: str) -> None:
    spared = ["7", "३", "2024", ".", "。", "—", "«", "।", "€", "+", "🙂", "½", "µ",
              "load_model", "_id", "get(", "()", "</div", "{x", "a=b", "toString", "v2", "3D",
              "$this", "\\frac", "https://", "@param"]  # fmt: skip

    assert set(bias_of(spared, language).values()) == {0.0}


def test_code_is_in_ascii() -> None:
    assert bias_of(["价格=", "(the", "the"], "el") == dict.fromkeys(
        ["价格=", "(the", "the"], -STRONG_NATS
    )


def test_special_tokens_are_spared_whatever_they_are_for() -> None:
    tokenizer = make_tokenizer(["the"])
    table = read_token_table(tokenizer)

    bias = make_token_bias(table, TokenBias(JA, STRONG_NATS, torch.full((4,), -50.0)))

    assert bias.tolist() == [0.0, 0.0, 0.0, -STRONG_NATS]


def test_end_that_looks_like_a_word_is_spared() -> None:
    end = "stop"
    tokenizer = make_tokenizer([end, "go"])
    tokenizer.eos_token = end

    bias = make_token_bias(read_token_table(tokenizer), TokenBias(JA, STRONG_NATS, None))

    assert bias[tokenizer.eos_token_id] == 0
    assert bias[tokenizer.convert_tokens_to_ids("go")] == -STRONG_NATS


def test_pieces_of_letters_are_spared_and_letters_are_not(
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    table = read_token_table(byte_tokenizer)

    bias = make_token_bias(table, TokenBias(EL, STRONG_NATS, None))

    assert bias_of(["a\ufffd", "\ufffdn", "an"], "el") == {
        "a\ufffd": 0.0,
        "\ufffdn": 0.0,
        "an": -STRONG_NATS,
    }
    for token in range(len(byte_tokenizer)):
        text = byte_tokenizer.decode([token])
        is_word = text.strip().isalpha() and "�" not in text
        assert float(bias[token]) == (-STRONG_NATS if is_word else 0.0), text


@pytest.mark.parametrize("code", ["en", "fr", "vi", "id", "es"])
def test_bundled_tokens_of_a_latin_text_are_free_and_those_of_han_are_not(code: str) -> None:
    bias = make_token_bias(bundled_table(), TokenBias(LANGUAGES[code], STRONG_NATS, None))

    own = bundled_tokenizer()(" ".join(TEXTS[code]), add_special_tokens=False)["input_ids"]
    other = bundled_tokenizer()("".join(TEXTS["ja"]), add_special_tokens=False)["input_ids"]
    assert bias[own].min() == 0
    assert (bias[other] == -STRONG_NATS).float().mean() > 0.3


def test_bundled_end_is_never_biased() -> None:
    tokenizer = bundled_tokenizer()

    for code in ("en", "ja", "ar"):
        bias = make_token_bias(bundled_table(), TokenBias(LANGUAGES[code], STRONG_NATS, None))
        assert bias[tokenizer.all_special_ids].abs().max() == 0


def test_table_has_a_row_for_every_token_id(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    for tokenizer in (bundled_tokenizer(), byte_tokenizer):
        table = read_token_table(tokenizer)
        assert len(table.is_spared) == len(table.script_set_index) == len(tokenizer)
        assert table.script_set_index.max() < len(table.script_sets)


def test_table_of_a_large_vocabulary_is_quick() -> None:
    """Measured at 2.4 s beside other work; the limit is above, as machines differ."""
    signs = "etaoinшрлкमतнがのにбคน猫犬한".replace("н", "s")
    words = ["".join(signs[n // 22**place % 22] for place in range(5)) for n in range(256_000)]
    tokenizer = make_tokenizer(words)

    start = time.process_time()
    table = read_token_table(tokenizer)

    assert time.process_time() - start < 6
    assert len(table.is_spared) == len(words) + 3


# The bias by log-odds.


def test_same_script_is_biased_by_what_is_below_the_margin_up_to_the_bound() -> None:
    table = read_token_table(make_tokenizer(["oui", "si", "the", "der", "chat", "猫"]))
    log_odds = torch.tensor([0.0, 0.0, 0.0, 4.0, -MARGIN_NATS, -2.5, -50.0, -math.inf, 9.0])

    gentle = make_token_bias(table, TokenBias(FR, GENTLE_NATS, log_odds))

    assert gentle.tolist() == [
        0,
        0,
        0,
        0,
        0,
        MARGIN_NATS - 2.5,
        -GENTLE_NATS,
        -GENTLE_NATS,
        -GENTLE_NATS,
    ]


def test_log_odds_of_half_precision_and_of_more_or_fewer_tokens_are_used() -> None:
    table = read_token_table(make_tokenizer(["oui", "the"]))

    longer = make_token_bias(
        table, TokenBias(FR, STRONG_NATS, torch.full((9,), -3.0, dtype=torch.float16))
    )
    shorter = make_token_bias(table, TokenBias(FR, STRONG_NATS, torch.full((4,), -3.0)))

    assert longer.tolist() == [0, 0, 0, MARGIN_NATS - 3, MARGIN_NATS - 3]
    assert longer.dtype == torch.float32
    assert shorter.tolist() == [0, 0, 0, MARGIN_NATS - 3, 0]


def test_log_odds_of_texts_leave_the_targets_own_words_and_bias_the_others() -> None:
    """How much of each text of `texts.py` is biased, in bundled tokens."""
    codes = ["en", "fr", "es", "vi", "id"]
    size = len(bundled_table().is_spared)
    ids = [bundled_tokenizer()(TEXTS[code] * 3, add_special_tokens=False)["input_ids"]
           for code in codes]  # fmt: skip
    flat = [[token for line in lines for token in line] for lines in ids]
    counts = torch.stack([torch.bincount(torch.tensor(row), minlength=size) for row in flat])

    log_odds = token_log_odds(counts)

    for row, code in enumerate(codes):
        bias = make_token_bias(
            bundled_table(), TokenBias(LANGUAGES[code], STRONG_NATS, log_odds[row])
        )
        is_biased = [(bias[tokens] < 0).float().mean() for tokens in flat]
        others = is_biased[:row] + is_biased[row + 1 :]
        assert is_biased[row] < 0.05
        assert min(others) > 0.15


@given(
    values=st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=12),
    code=st.sampled_from(sorted(LANGUAGES)),
    bound=st.sampled_from(BOUNDS),
)
def test_bias_is_bounded_whatever_the_log_odds(
    values: list[float], code: str, bound: float
) -> None:
    table = bundled_table()
    log_odds = torch.tensor(values, dtype=torch.float32).repeat(len(table.is_spared) // 2)

    bias = make_token_bias(table, TokenBias(LANGUAGES[code], bound, log_odds))

    assert bias.shape == table.is_spared.shape
    assert bias.dtype == torch.float32
    assert bias.max() <= 0
    assert bias.min() >= -bound
    assert bias[table.is_spared].abs().max() == 0


@pytest.mark.parametrize(
    "log_odds", [torch.zeros(2, 5), torch.tensor([0.0, math.nan])], ids=["rows", "nan"]
)
def test_log_odds_that_are_not_one_row_of_numbers_are_refused(log_odds: Tensor) -> None:
    with pytest.raises(PlanError, match="Expected the target's row"):
        make_token_bias(bundled_table(), TokenBias(FR, STRONG_NATS, log_odds))


# Names in the prompt.

NAMES = [
    ("who is Anna Karenina?", "Anna Karenina"),
    ("Who wrote Emma?", "Emma"),
    ("Ask Mr. Smith. Then Mrs. Jones, then J. Doe", "Mr Smith Mrs Jones Doe"),
    ("He left. Nobody came\nSoon Bob did!  Then all: Zoe", "Bob Zoe"),
    ("NASA has an iPhone", "NASA iPhone"),
    ("WHAT IS THIS CALLED", ""),
    ("when Will I go to The Hague", "Hague"),
    ("Wer ist der Mann mit dem Hut und der Nase", ""),
    ("Wer hat das iPhone und die USB-Kabel", "iPhone USB"),
    ("what does “window pane” mean", "window pane"),
    ("he said “go away, please, now.” loudly", ""),
    ("do you know the 'ship of fools'", "ship fools"),
    ("it's what the dogs' owner's like", ""),
    ("use `sort` or load_model or os.walk() here", "sort load_model os.walk()"),
    ("see https://x.org/a or me@x.org", "https://x.org/a me@x.org"),
    ("what is 猫 in french", "猫"),
    ("東京タワーの近くにあるParisは", "Paris"),
    ("埃菲尔铁塔 Eiffel 在哪里", "Eiffel"),
    ("где купить iphone", "iphone"),
    ("क्या pizza अच्छा है", "pizza"),
    ("hello, how are you?", ""),
    ("", ""),
    ("?!", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "names"), NAMES)
def test_only_what_looks_like_a_name_is_spared(text: str, names: str) -> None:
    """Every word of the prompt and every name is a token, so any word too many shows."""
    parts = text.replace("“", " ").replace("”", " ").replace("`", " ").replace("'", " ").split()
    words = {*parts, *(part.strip(".,:?!") for part in parts), *names.split()} - {""}
    tokenizer = make_tokenizer([*sorted(words), "other"])

    spared = spared_prompt_ids(tokenizer, text)

    assert spared == set(tokenizer.convert_tokens_to_ids(names.split()))


def test_name_is_spared_at_the_start_of_an_answer_and_inside_it() -> None:
    tokenizer = bundled_tokenizer()

    spared = spared_prompt_ids(tokenizer, "where does Theodora live")

    for answer in ("Theodora", " Theodora"):
        assert set(tokenizer(answer, add_special_tokens=False)["input_ids"]) <= spared
    where = tokenizer(" where", add_special_tokens=False)["input_ids"]
    assert not set(where) <= spared


@given(st.text(max_size=60))
def test_names_of_any_text_are_token_ids(text: str) -> None:
    spared = spared_prompt_ids(bundled_tokenizer(), text)

    assert all(0 <= token < len(bundled_table().is_spared) for token in spared)


# The processor.


IDS = torch.zeros(1, 1, dtype=torch.int64)  # what a row wrote so far, which no bias depends on


def random_scores(rows: int = 3, vocab: int = 8) -> Tensor:
    scores = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(0))
    scores[:, 0] = -0.0
    scores[:, 1] = -math.inf
    return scores


def test_each_row_gets_its_own_bias_and_nothing_is_changed_in_place() -> None:
    scores = random_scores()
    given_scores = scores.clone()
    first, last = -torch.arange(8.0), -torch.ones(8)

    biased = TokenBiasProcessor([first, None, last], [(), {3}, {2, 5, 99}])(IDS, scores)

    assert torch.equal(scores, given_scores)
    assert torch.equal(biased[0], scores[0] + first)
    assert torch.equal(biased[2, [2, 5]], scores[2, [2, 5]])
    assert torch.equal(biased[2, [3, 4, 6, 7]], scores[2, [3, 4, 6, 7]] - 1)
    assert torch.equal(last, -torch.ones(8))


@pytest.mark.parametrize("bias", [None, torch.zeros(8)], ids=["none", "off"])
def test_row_without_bias_keeps_its_bits_also_of_minus_zero(bias: Tensor | None) -> None:
    scores = random_scores()

    biased = TokenBiasProcessor([bias, -torch.ones(8), bias], [()] * 3)(IDS, scores)

    for row in (0, 2):
        assert torch.equal(biased[row].view(torch.int32), scores[row].view(torch.int32))
    assert not torch.equal(biased[1], scores[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_type_of_the_logits_stays(dtype: torch.dtype) -> None:
    scores = torch.zeros(1, 8, dtype=dtype)

    biased = TokenBiasProcessor([torch.full((8,), -3.0)], [()])(IDS, scores)

    assert biased.dtype == dtype
    assert biased.unique().tolist() == [-3.0]


def test_logits_beyond_the_tokenizer_get_nothing() -> None:
    scores = random_scores(1, 8)

    biased = TokenBiasProcessor([-torch.ones(5)], [()])(IDS, scores)

    assert torch.equal(biased[:, 5:], scores[:, 5:])
    assert torch.equal(biased[:, :5], scores[:, :5] - 1)


def test_bias_of_more_tokens_than_the_model_has_is_refused_unless_it_is_nothing() -> None:
    bias = torch.tensor([-1.0, 0.0, 0.0])

    biased = TokenBiasProcessor([bias], [()])(IDS, torch.zeros(1, 2))
    assert biased.tolist() == [[-1.0, 0.0]]
    with pytest.raises(PlanError, match="for '3' tokens, the model has 2"):
        TokenBiasProcessor([bias.flip(0)], [()])(IDS, torch.zeros(1, 2))


def test_another_number_of_rows_is_refused() -> None:
    with pytest.raises(PlanError, match="biases for '2' rows and spared tokens for '1'"):
        TokenBiasProcessor([None, None], [()])
    with pytest.raises(PlanError, match="logits for '3' rows and token biases for '2'"):
        TokenBiasProcessor([None, None], [(), ()])(IDS, random_scores())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_logits_on_a_device_stay_there() -> None:
    scores = random_scores().cuda()

    biased = TokenBiasProcessor([-torch.ones(8), None, None], [(), (), ()])(IDS, scores)

    assert biased.device == scores.device
    assert torch.equal(biased[0], scores[0] - 1)
    assert torch.equal(biased[1:], scores[1:])


# In `generate`, with a vocabulary of mostly Latin words and some of other scripts.

CYRILLIC = [f"{a}{b}" for a in "дож" for b in "арит"]
LATIN = [f"{a}{b}" for a in "bcdfghklmnprstv" for b in "aeiouáéíóúâêîôûàèìò"]
WORDS = [*CYRILLIC, *LATIN][: VOCAB_SIZE - 3]


@pytest.fixture(scope="module")
def words_tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(WORDS)


def write(
    model: PreTrainedModel, processors: list[TokenBiasProcessor]
) -> tuple[list[list[int]], tuple[Tensor, ...]]:
    """Eight greedy tokens for three equal prompts, and the logits that they were chosen by."""
    out = model.generate(  # type: ignore[operator]  # transformers mixes it in untyped
        input_ids=torch.tensor([[20, 40, 60]] * 3),
        attention_mask=torch.ones(3, 3, dtype=torch.int64),
        logits_processor=LogitsProcessorList(processors),
        max_new_tokens=8,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return out.sequences[:, 3:].tolist(), out.scores


def test_strong_bias_moves_a_row_to_the_script_and_leaves_the_others_bit_for_bit(
    make_tiny_model: Callable[..., PreTrainedModel], words_tokenizer: PreTrainedTokenizerFast
) -> None:
    model, table = make_tiny_model("llama"), read_token_table(words_tokenizer)
    off, strong = (
        make_token_bias(table, TokenBias(RU, bound, None)) for bound in (0.0, STRONG_NATS)
    )
    plain, plain_scores = write(model, [])

    rows, scores = write(model, [TokenBiasProcessor([off, strong, None], [()] * 3)])

    assert rows[0] == rows[2] == plain[0]
    for step, before in zip(scores, plain_scores, strict=True):
        assert torch.equal(step[0].view(torch.int32), before[0].view(torch.int32))
        assert torch.equal(step[2].view(torch.int32), before[2].view(torch.int32))
    assert not {words_tokenizer.decode([token]) for token in plain[1]} <= set(CYRILLIC)
    assert {words_tokenizer.decode([token]) for token in rows[1]} <= set(CYRILLIC)


def test_rows_have_other_targets_and_the_prompts_names_in_one_batch(
    make_tiny_model: Callable[..., PreTrainedModel], words_tokenizer: PreTrainedTokenizerFast
) -> None:
    model, table = make_tiny_model("llama"), read_token_table(words_tokenizer)
    russian, french = (
        make_token_bias(table, TokenBias(target, STRONG_NATS, None)) for target in (RU, FR)
    )
    plain, _ = write(model, [])

    rows, _ = write(model, [TokenBiasProcessor([russian, french, russian], [(), (), plain[0]])])

    assert {words_tokenizer.decode([token]) for token in rows[0]} <= set(CYRILLIC)
    assert {words_tokenizer.decode([token]) for token in rows[1]} <= set(LATIN)
    assert rows[2] == plain[0]
