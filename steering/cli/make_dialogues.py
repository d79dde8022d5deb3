"""`make-dialogues`: lets a chat model write the dialogues that a set is built on, from no data."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    load_chosen_model,
    parse_languages,
    write_text,
)
from steering.contrastive import MadeDialogues, make_dialogues
from steering.errors import CorpusError, SettingsError
from steering.loading import LoadedModel

if TYPE_CHECKING:
    from argparse import _SubParsersAction


_WRITER_FILE = "written-by.txt"


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "make-dialogues", help="let a chat model write the dialogues for build-set"
    )
    add_model_arguments(parser)
    parser.add_argument("--languages", required=True, help="codes, such as en,zh,fr")
    parser.add_argument("--out", type=Path, required=True, help="folder for <code>.jsonl")
    parser.add_argument("--prompts", type=int, default=240, help="prompts per language")
    parser.add_argument("--max-new-tokens", type=int, default=48, help="length of an answer")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write one file per language; a language whose file exists is left as it is."""
    check_at_least(1, prompts=options.prompts, max_new_tokens=options.max_new_tokens)
    languages = parse_languages(options.languages)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise SettingsError(
            f"Cannot write to '{options.out}': {err.strerror}. Expected a folder; choose another."
        ) from err
    model = load_chosen_model(options)
    _check_same_writer(options.out / _WRITER_FILE, model)
    missing = [one for one in languages if not (options.out / f"{one}.jsonl").exists()]
    with tqdm(total=len(missing) * options.prompts, unit="prompts", dynamic_ncols=True) as bar:
        for target in missing:
            bar.set_description(str(target), refresh=False)
            made = make_dialogues(
                model,
                target,
                languages=languages,
                limit=options.prompts,
                max_new_tokens=options.max_new_tokens,
                progress=bar.update,
            )
            if made.warning:
                bar.write(f"warning: {target.english_name}: {made.warning}", file=sys.stderr)
            _write(options.out / f"{target}.jsonl", made)
    print(f"Wrote '{options.out}': {len(missing)} new, {len(languages) - len(missing)} kept.")
    return 0


def _check_same_writer(path: Path, model: LoadedModel) -> None:
    """Write down which model fills the folder; refuse a folder that another one has begun."""
    identity = f"{model.identity.model_id} {model.identity.revision}\n"
    if not path.exists():
        write_text(path, identity)
    elif (found := path.read_text(encoding="utf-8", errors="replace")) != identity:
        raise SettingsError(
            f"'{path.parent}' holds answers by '{found.strip()[:200]}'. Expected those of "
            f"'{identity.strip()}'; choose another `--out`, or delete that folder."
        )


def _write(path: Path, made: MadeDialogues) -> None:
    if not made.dialogues:
        raise CorpusError(
            f"The model wrote '0' answers for '{path.name}'. Expected some text; use a model that "
            "answers, or give `build-set --dialogues` dialogues of your own."
        )
    rows = [{"prompt": row.prompt, "answer": row.answer} for row in made.dialogues]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
