"""What `build-set` does around a recording: opens the corpora, shows a bar, says where all is from.

Knows the command's options; what is recorded and how is `steering/recording.py`.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.activation_stats import StatsPhase
from steering.building import SetOrigin
from steering.chunks import ChunkOptions, Position, iter_chunks, model_state
from steering.cli.outlook import Outlook
from steering.corpus import Corpus, hash_rows_read, iter_dialogues, iter_text, open_corpus
from steering.corpus_language import check_corpus_languages
from steering.from_model import MadeCorpora, Questions, make_corpora
from steering.languages import Language
from steering.partial_results import PartialResults
from steering.processes import Processes
from steering.recording import Recording, RecordingOptions, record

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_SAMPLE_ROWS = 200  # for estimating how many tokens a file holds


def open_corpora(options: argparse.Namespace, languages: Sequence[Language]) -> list[Corpus]:
    """Find the text and the dialogues that the options name."""
    corpora = []
    if options.text is not None:
        corpora.append(
            open_corpus(
                options.text,
                languages,
                kind="text",
                configuration=options.text_config,
                column=options.text_column,
            )
        )
    if options.dialogues is not None:
        configuration = options.text_config if options.chat_template else ""
        corpora.append(
            open_corpus(options.dialogues, languages, kind="dialogues", configuration=configuration)
        )
    if not options.any_language:
        for corpus in corpora:
            check_corpus_languages(corpus)
    return corpora


def ask_model(
    model: "LoadedModel",
    questions: Questions,
    folder: Path,
    processes: Processes,
    outlook: Outlook,
) -> MadeCorpora:
    """Let the model answer the shipped prompts, under a bar, and say what was kept."""
    asked = sum(map(len, questions.prompts().values())) // processes.count
    with tqdm(
        total=asked,
        unit="answers",
        dynamic_ncols=True,
        disable=not processes.is_first,
    ) as bar:

        def show(language: Language, answers: int) -> None:
            bar.set_description(f"{language} answers", refresh=False)
            bar.update(answers)
            outlook.show(bar, "answering", bar.n, asked)

        outlook.begin()
        corpora = make_corpora(model, questions, folder, processes=processes, progress=show)
    if processes.is_first:
        print(corpora.summary)
    return corpora


def describe_origin(
    corpora: Sequence[Corpus], recording: Recording, options: argparse.Namespace
) -> SetOrigin:
    """Return where the set comes from: names, and one hash over what was read of every language."""
    return SetOrigin(
        corpus_name=" + ".join(dict.fromkeys(corpus.name for corpus in corpora)),
        corpus_sha256=hash_rows_read(corpora, recording.digests),
        evaluation=options.evaluation,
        licence=options.licence,
    )


def record_with_bar(
    model: "LoadedModel",
    languages: Sequence[Language],
    corpora: Sequence[Corpus],
    options: argparse.Namespace,
    partial: PartialResults,
    processes: Processes,
    outlook: Outlook | None = None,
) -> Recording:
    """Record under a bar, saving on the way."""
    chunks = ChunkOptions(options.batch_size, options.tokens)
    total = _expect_tokens(model, corpora, chunks)
    with tqdm(
        total=total and total // processes.count,
        unit="tokens",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not processes.is_first,
    ) as bar:

        def show(language: Language, phase: StatsPhase, tokens: int) -> None:
            bar.set_description(f"{language} {phase}", refresh=False)
            bar.update(tokens)
            if outlook is not None and bar.total:
                outlook.show(bar, "recording", bar.n, bar.total)

        def warn(message: str) -> None:
            if processes.is_first:
                bar.write(f"warning: {message}", file=sys.stderr)

        if outlook is not None:
            outlook.begin()
        return record(
            model,
            languages,
            corpora,
            options=RecordingOptions(
                chunks,
                partial,
                model_state(model),
                save_every_s=60 * options.checkpoint_minutes,
                save_every_tokens=options.checkpoint_tokens,
                processes=processes,
            ),
            progress=show,
            warn=warn,
        )


def _expect_tokens(
    model: "LoadedModel", corpora: Sequence[Corpus], chunks: ChunkOptions
) -> int | None:
    """Return how many positions will be counted; None where nobody can tell.

    Exactly for rows in memory, and estimated from the beginning of every local file.
    """
    total, limit = 0.0, chunks.tokens
    for corpus in corpora:
        for language, source in corpus.sources.items():
            if source.rows is not None:
                total += _count_tokens(model, corpus, language, chunks)
                continue
            if not source.bytes:
                if limit is None:
                    return None
                total += limit
                continue
            texts = list(islice(_answers_or_text(corpus, language), _SAMPLE_ROWS))
            if not texts:
                continue
            encoded = model.tokenizer(texts, add_special_tokens=False, verbose=False)
            tokens = sum(map(len, encoded["input_ids"]))
            sample_bytes = max(1, sum(len(text.encode()) for text in texts))
            share = 1.0 if corpus.kind == "text" else 0.5  # dialogue files hold prompts as well
            estimate = tokens / sample_bytes * source.bytes * share
            total += min(estimate, limit or math.inf)
    return int(total)


def _count_tokens(
    model: "LoadedModel", corpus: Corpus, language: Language, chunks: ChunkOptions
) -> int:
    """Return how many positions of a language will be counted; cuts it up as recording does."""
    passes = iter_chunks(model, corpus, language, options=chunks, start=Position())
    return sum(int(mask.sum()) for chunk in passes for mask in chunk.masks.values())


def _answers_or_text(corpus: Corpus, language: Language) -> Iterator[str]:
    if corpus.kind == "text":
        return iter_text(corpus, language)
    return (dialogue.answer for dialogue in iter_dialogues(corpus, language))
