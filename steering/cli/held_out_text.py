"""Held-out text that perplexity is measured on: of a folder, or of the bundled model's grammar."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from torch import Tensor
from tqdm import tqdm

from steering.cli.bundled_prompts import SHOWN_AFTER_S, held_out_dialogues
from steering.cli.provenance import hash_json
from steering.conversation import context_tokens
from steering.corpus import iter_text, open_corpus
from steering.errors import SettingsError
from steering.evaluation.perplexity import pack_dialogues, pack_rows, template_marks
from steering.languages import Language
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.neuron_set import NeuronSet

# A model, a language and the tokens of a row -> token ids `(rows, tokens)`.
PackText: TypeAlias = Callable[[LoadedModel, Language, int], Tensor]
_Item = TypeVar("_Item")

_TOKENS_PER_DIALOGUE = 16  # fewer than those of the grammar have on average in any language


def check_has_text(options: argparse.Namespace, *, flag: str) -> None:
    """Refuse to measure without text where the model has none of its own.

    Args:
        options: With `text`, `rows`, `row_tokens`, `seed` and `model`, as `choose_text` reads them.
        flag: What names the folder.

    Raises:
        SettingsError: Naming the flag.
    """
    if options.text is None and options.model != BUNDLED_MODEL:
        raise SettingsError(
            f"`{flag}` is missing, and the model is '{options.model}'. Expected a folder with "
            "held-out text, such as en.txt and fr.txt; only the bundled model has some of its own."
        )


def choose_text(options: argparse.Namespace, neurons: NeuronSet) -> PackText:
    """Find the text of a folder, or of the bundled model's grammar, before a model is loaded."""
    if options.text is not None:
        corpus = open_corpus(options.text, neurons.languages, kind="text")
        return lambda model, language, tokens: pack_rows(
            model,
            _with_bar(iter_text(corpus, language), f"lines of {language}"),
            row_tokens=tokens,
            rows=options.rows,
        )
    count = options.rows * options.row_tokens // _TOKENS_PER_DIALOGUE + 10
    held_out = held_out_dialogues(count, seed=options.seed, languages=neurons.languages)
    return lambda model, language, tokens: pack_dialogues(
        model,
        _with_bar(held_out[language], f"dialogues of {language}"),
        row_tokens=tokens,
        rows=options.rows,
    )


def pack_all(
    model: LoadedModel,
    packs: Mapping[str, PackText],
    sets: Mapping[str, NeuronSet],
    *,
    row_tokens: int,
) -> dict[Language, Tensor]:
    """Return rows of text in every language of some sets, each language once.

    Args:
        model: Whose tokens, and whose context rows are not longer than.
        packs: What `choose_text` returned, per name of a set.
        sets: Per name.
        row_tokens: Length of a row.
    """
    tokens = min(row_tokens, context_tokens(model))
    rows: dict[Language, Tensor] = {}
    for name, pack in packs.items():
        for language in sets[name].languages:
            if language not in rows:
                rows[language] = pack(model, language, tokens)
    return rows


def uncounted_tokens(options: argparse.Namespace, model: LoadedModel) -> list[int]:
    """Return the token ids that are not predicted: of chats the template's marks."""
    return template_marks(model) if options.text is None else []


def name_text(options: argparse.Namespace) -> str:
    """Return what the text is, in words."""
    if options.text is None:
        return "held-out dialogues of the grammar"
    return str(options.text.resolve().name)


def describe_text(
    options: argparse.Namespace, rows: Mapping[Language, Tensor], model: LoadedModel
) -> dict[str, object]:
    """Return what a file of numbers says of the text that was measured on."""
    return {
        "text": name_text(options),
        "text_sha256": hash_rows(rows, uncounted_tokens(options, model)),
        "tokens": {str(language): held.numel() for language, held in rows.items()},
    }


def hash_rows(rows: Mapping[Language, Tensor], uncounted: Sequence[int]) -> str:
    """Return the SHA-256 of the tokens that are measured on, and of those left uncounted."""
    by_code = {str(language): ids.tolist() for language, ids in rows.items()}
    return hash_json([by_code, list(uncounted)])


def _with_bar(items: Iterable[_Item], what: str) -> Iterable[_Item]:
    """Go through items that are turned into tokens, with a bar when that takes long."""
    return tqdm(items, desc=what, delay=SHOWN_AFTER_S, leave=False, dynamic_ncols=True)
