"""A bounded logit bias against tokens of other languages and scripts than the target's.

Token counts per language become log-odds, a tokenizer becomes a table of scripts, both become one
bias per batch row, which a `TokenBiasProcessor` adds. Knows single tokens only: not which word a
token is part of, what language a prompt is in, or whether the answer is on target without it.
Code, digits, signs, special tokens, pieces of letters and names of the prompt are spared.
Dimension key: see `activation_stats.py`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.errors import PlanError, StatsError
from steering.function_words import FUNCTION_WORDS
from steering.languages import Language
from steering.neuron_set import NeuronSet
from steering.steering_plan import EVERY_POSITION, SteeringPlan, TokenBias, Where
from steering.unicode_scripts import count_scripts, is_japanese, script_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The most that is taken off a logit, in nats. Measured on eight unsteered English answers of the
# bundled model: the best token in Latin letters is 4.8 to 7.9 above the best in Han or kana at the
# onset, and 12 (median) in the body. So these turn no clear choice; 10 turn every onset but
# leave a word that the model is sure of.
GENTLE_NATS = 3.0
# A token that the target uses e times more seldom than the others do is still the target's own:
# topics of two recordings differ by as much.
MARGIN_NATS = 1.0
# Added to every share: ten tokens in a million, below which recordings of the usual 1e5 to 1e6
# tokens per language tell seldom from never only by chance.
SMOOTHING_SHARE = 1e-5
# A token seen fewer times than this in every language says nothing: one text can have it by chance.
MIN_COUNT = 5

_SCRIPTS_IN_USE = {"Jpan": frozenset({"Hani", "Kana"})}
# Of a token in ASCII: a sign of code or mark-up beside a letter, a call, camel case, "v2".
_CODE_LIKE = re.compile(r"[_\\$@#<>={}|&^~/]|[A-Za-z]\(|[a-z][A-Z]|[A-Za-z]\d|\d[A-Za-z]")

# A word of a script that has capitals: Latin, Greek, Cyrillic, Armenian.
_CASED_WORD = re.compile(r"[A-Za-z\u00c0-\u058f\u1e00-\u1fff]+")
# As long as a name; what is longer, or ends like a sentence, is speech in the prompt's language.
_QUOTE = re.compile(
    r"[`\"“„«「『《〈]([^`\"“”„«»「」『』《》〈〉\n]{1,30})[`\"“”»」』》〉]"
    r"|(?<!\w)'([^'\n]{1,30})'(?!\w)"
)
_ENDS_LIKE_SPEECH = re.compile(r"[.!?。！？؟।…]\s*$")
_ASCII_RUN = re.compile(r"[!-~]{2,100}")
_IDENTIFIER = re.compile(r"\w_\w|\w\(\)|::|://|\w@\w")
# A period behind up to three letters with a capital ("J.", "Mrs.") ends no sentence.
_SENTENCE_START = re.compile(r"[!?…。！？؟।\n\"“„«]|(?<![A-Z])(?<![A-Z][a-z])(?<![A-Z][a-z]{2})\.")
# Words that are never a name alone: "the" of a quoted title would spare English as a whole.
_SMALL_WORDS = frozenset[str]().union(*FUNCTION_WORDS.values())


def token_log_odds(counts_KV: Tensor) -> Tensor:
    """Compare how much a token is used in a language and in the others, in nats.

    In words: log of (share of the token among the language's tokens + `SMOOTHING_SHARE`), less log
    of the mean of (share + `SMOOTHING_SHARE`) over the other languages. Only shares enter, so a
    language recorded at greater length weighs no more. 0 for a token seen fewer than `MIN_COUNT`
    times in every language, and throughout for a language without tokens, which is nobody's other.

    Args:
        counts_KV: How often each token was seen, int64 `(languages, vocab)`.

    Returns:
        Log-odds, float32 `(languages, vocab)`; below 0 is a token of the others.

    Raises:
        StatsError: If the counts are not of two dimensions.

    Source: ours; the log-likelihood ratio of "this language" against "one of the others".
    """
    if counts_KV.dim() != 2:
        raise StatsError(
            f"Token counts have the shape '{tuple(counts_KV.shape)}'. Expected (languages, vocab); "
            "stack one row per language."
        )
    totals_K1 = counts_KV.sum(dim=1, keepdim=True)
    is_recorded_K1 = totals_K1 > 0
    shares_KV = counts_KV.double() / totals_K1.clamp(min=1) + SMOOTHING_SHARE
    shares_KV = shares_KV * is_recorded_K1
    others_K1 = (is_recorded_K1.sum() - is_recorded_K1.long()).clamp(min=1)
    others_KV = (shares_KV.sum(dim=0) - shares_KV) / others_K1
    is_known_KV = (counts_KV >= MIN_COUNT).any(dim=0) & is_recorded_K1 & (is_recorded_K1.sum() >= 2)
    return torch.where(is_known_KV, shares_KV.log() - others_KV.log(), 0.0).float()


@dataclass(frozen=True, slots=True, eq=False)
class TokenTable:
    """What the tokens of a tokenizer are made of; all tensors on the CPU.

    Args:
        is_spared: Whether a token is of every language, bool `(vocab,)`.
        script_sets: The sets of scripts that occur, of letters and their marks.
        script_set_index: Which of them each token has, int64 `(vocab,)`.
    """

    is_spared: Tensor
    script_sets: tuple[frozenset[str], ...]
    script_set_index: Tensor


@functools.lru_cache(maxsize=2)
def read_token_table(tokenizer: PreTrainedTokenizerBase) -> TokenTable:
    """Look at every token of a tokenizer, once; 2.4 s for 256 thousand on a busy core.

    Spared are tokens without letters (digits, signs, spaces), code, the special tokens, the end of
    the text among them, and tokens that are no whole letters. A letter of a script that
    `unicode_scripts.py` does not know is no letter here.
    """
    size = max(tokenizer.get_vocab().values()) + 1
    texts = tokenizer.batch_decode([[token] for token in range(size)])
    scripts = [_scripts_in(text) for text in texts]
    places = {found: place for place, found in enumerate(dict.fromkeys(scripts))}
    is_spared = torch.tensor(
        [not found or _is_code(text) for found, text in zip(scripts, texts, strict=True)]
    )
    is_spared[_special_ids(tokenizer)] = True
    return TokenTable(is_spared, tuple(places), torch.tensor([places[found] for found in scripts]))


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that are no text, also those that have no role (`<|reserved_1|>`)."""
    added = tokenizer.added_tokens_decoder.items()
    return [*tokenizer.all_special_ids, *(token for token, what in added if what.special)]


def _scripts_in(text: str) -> frozenset[str]:
    """Return the scripts of the letters; none where bytes are missing to a whole letter."""
    return frozenset() if "\ufffd" in text else frozenset(map(_letter_script, text)) - {""}


@functools.cache
def _letter_script(sign: str) -> str:
    """Return the script of a letter or of a mark on one (a vowel of Hindi); "" of all else."""
    is_letter = sign.isalpha() or unicodedata.category(sign).startswith("M")
    return script_of(sign).replace("Zyyy", "") if is_letter else ""


def _is_code(text: str) -> bool:
    return text.isascii() and _CODE_LIKE.search(text) is not None


# A bias has neither site nor layers; it acts on the logits of every token of the answer.
EVERY_LOGIT = Where("residual", EVERY_POSITION)


def bias_tokens(
    neurons: NeuronSet,
    target: Language,
    strength: float,
    _where: Where,
) -> SteeringPlan:
    """Make tokens of other languages and scripts less likely, by up to *strength* nats."""
    log_odds = neurons.token_log_odds
    row = None if log_odds is None else log_odds[neurons.position(target)]
    return SteeringPlan({}, token_bias=TokenBias(target, strength, row))


def make_token_bias(table: TokenTable, wanted: TokenBias) -> Tensor:
    """Say what to add to the logit of each token when the answer should be in a language.

    A token with letters of a script that the target does not use gets the full bound. Latin
    letters beside the target's own are of the target ("Tシャツ"). Of the other tokens, one with
    log-odds below -`MARGIN_NATS` gets what is below, at most the bound. Spared tokens get 0.

    Args:
        table: From `read_token_table`.
        wanted: Of a plan. Where its log-odds are shorter than the table nothing is known.

    Returns:
        Values from -bound to 0, float32 `(vocab,)`, on the CPU.

    Raises:
        PlanError: If the log-odds are not numbers of one dimension.
    """
    bound, target, log_odds = wanted.bound_nats, wanted.target, wanted.log_odds
    own = _SCRIPTS_IN_USE.get(target.script, frozenset({target.script}))
    is_foreign = torch.tensor([_is_foreign(scripts, own) for scripts in table.script_sets])
    bias_V = is_foreign[table.script_set_index].float() * -bound
    if log_odds is not None:
        _check_log_odds(log_odds)
        known = min(len(log_odds), len(bias_V))
        excess_V = (log_odds[:known].float().cpu() + MARGIN_NATS).clamp(min=-bound)
        bias_V[:known] = torch.minimum(bias_V[:known], excess_V)
    return bias_V.masked_fill(table.is_spared, 0.0)


@functools.lru_cache(maxsize=64)
def read_token_bias(tokenizer: PreTrainedTokenizerBase, wanted: TokenBias) -> Tensor:
    """Return `make_token_bias` of a tokenizer's table; made once, so do not change it."""
    return make_token_bias(read_token_table(tokenizer), wanted)


def _is_foreign(scripts: frozenset[str], own: frozenset[str]) -> bool:
    return bool(scripts - own - ({"Latn"} if scripts & own else set()))


def _check_log_odds(log_odds: Tensor) -> None:
    if log_odds.dim() != 1 or log_odds.isnan().any():
        raise PlanError(
            f"Token log-odds have the shape '{tuple(log_odds.shape)}' and "
            f"'{int(log_odds.isnan().sum())}' values that are no number. Expected the target's row "
            "(vocab,) of `token_log_odds`; take one row, or build the set again."
        )


def spared_prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> set[int]:
    """Return the tokens of what looks like a name in a prompt, so that an answer can repeat it.

    A name is: a capitalised word inside a sentence (not in German, where nouns are), a word with a
    capital inside ("iPhone", "NASA"), a short quotation, an identifier or address, and a word in
    another script than most of the prompt. Small words ("the", "der") never are. The rest is not
    spared: a prompt is often in the language that the answer should not be in.

    Args:
        tokenizer: The model's.
        text: What the person wrote, without chat template.
    """
    words = {*_capitalised_words(text), *_words_in_other_scripts(text), *_literals(text)}
    names = sorted(word for word in words if word.casefold() not in _SMALL_WORDS)
    if not names:
        return set()
    forms = [form for name in names for form in (name, f" {name}")]
    encoded = tokenizer(forms, add_special_tokens=False)["input_ids"]
    return {token for ids in encoded for token in ids}


def _literals(text: str) -> list[str]:
    """Return the words of short quotations, and identifiers and addresses whole."""
    quoted = ["".join(parts) for parts in _QUOTE.findall(text)]
    words = [word for one in quoted if not _ENDS_LIKE_SPEECH.search(one) for word in one.split()]
    return words + [run for run in _ASCII_RUN.findall(text) if _IDENTIFIER.search(run)]


def _words_in_other_scripts(text: str) -> list[str]:
    """Return runs of letters outside the script that most are of; Japanese has two."""
    counts = count_scripts(text)
    if is_ja := is_japanese(counts):
        counts["Hani"] += counts.pop("Kana")
    main = max(counts, key=counts.__getitem__, default="")
    own = {"Hani", "Kana"} if is_ja and main == "Hani" else {main}
    runs = groupby(text, key=_letter_script)
    return ["".join(signs) for script, signs in runs if script and script not in own]


def _capitalised_words(text: str) -> list[str]:
    words = list(_CASED_WORD.finditer(text))
    if text.isupper() and len(words) > 1:
        return []
    is_marked = not _capitalises_nouns([word[0].casefold() for word in words])
    names = []
    for place, word in enumerate(words):
        before = text[words[place - 1].start() : word.start()] if place else "\n"
        is_inside = _SENTENCE_START.search(before) is None
        if (is_marked and is_inside and word[0][0].isupper()) or _has_inner_capital(word[0]):
            names.append(word[0])
    return names


def _has_inner_capital(word: str) -> bool:
    return any(letter.isupper() for letter in word[1:])


def _capitalises_nouns(words: Sequence[str]) -> bool:
    """Whether more of the words are German small words than those of any other language."""
    hits = {code: sum(word in small for word in words) for code, small in FUNCTION_WORDS.items()}
    return hits.pop("de") > max(hits.values())


class TokenBiasProcessor:
    """Adds each row's bias to its logits; a row without one keeps them bit for bit.

    Called as a `LogitsProcessor` of transformers is, which takes a quarter of a second to import.

    Args:
        biases: Per row of the batch, from `make_token_bias`, float32 `(vocab,)`; None or all 0
            leaves the row alone. Where one is shorter than the logits the rest gets nothing, as
            models have rows for tokens that no tokenizer has.
        spared_ids: Per row, tokens without bias, from `spared_prompt_ids`.

    Raises:
        PlanError: If they are not of the same number of rows.
    """

    def __init__(
        self, biases: Sequence[Tensor | None], spared_ids: Sequence[Collection[int]]
    ) -> None:
        if len(biases) != len(spared_ids):
            raise PlanError(
                f"There are token biases for '{len(biases)}' rows and spared tokens for "
                f"'{len(spared_ids)}'. Expected one of each per row; give an empty set for none."
            )
        self._row_count = len(biases)
        self._biases = {
            row: _without(bias, spared)
            for row, (bias, spared) in enumerate(zip(biases, spared_ids, strict=True))
            if bias is not None and bias.any()
        }
        self._stacked: Tensor | None = None  # (rows, vocab), where the logits are

    def __call__(self, _input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return new scores `(rows, vocab)`, of the device and type of those given.

        Raises:
            PlanError: If the rows are not as many as the biases, or a bias is of more tokens.
        """
        if len(scores) != self._row_count:
            raise PlanError(
                f"There are logits for '{len(scores)}' rows and token biases for "
                f"'{self._row_count}'. Expected as many; give one bias or None per row and beam."
            )
        if self._stacked is None or not _is_alike(self._stacked, scores):
            self._stacked = torch.full_like(scores, -0.0)  # x + -0.0 has the bits of x
            for row, bias in self._biases.items():
                placed = _place(bias, scores)
                self._stacked[row, : len(placed)] = placed
        return scores + self._stacked


def _is_alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.device == other.device


def _without(bias: Tensor, spared: Collection[int]) -> Tensor:
    """Return a copy with 0 at the spared tokens."""
    kept = bias.clone()
    kept[[token for token in spared if token < len(kept)]] = 0.0
    return kept


def _place(bias: Tensor, scores: Tensor) -> Tensor:
    """Return the bias on the device of the logits, at most as long as they are."""
    size = scores.shape[1]
    if len(bias) > size and bias[size:].any():
        raise PlanError(
            f"A token bias is for '{len(bias)}' tokens, the model has {size}. Expected a bias made "
            "with the model's own tokenizer; make it from that one."
        )
    return bias[:size].to(scores.device)
