"""The training recipe runs, resumes to the same weights, and exports what transformers loads."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo_model.batches import NO_LOSS, BatchMaker
from demo_model.dialogues import Turn
from demo_model.grammar.language_pack import LANGUAGE_CODES, load_language_pack
from demo_model.grammar.world import load_world
from demo_model.text import HELD_OUT_LINES, held_out_lines, training_lines
from demo_model.tokenizer import train_tokenizer
from demo_model.train import Recipe, Restart, train
from demo_model.write_corpus import write_corpus
from steering.corpus import iter_dialogues, open_corpus
from steering.languages import LANGUAGES

needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="training needs Muon, torch 2.9 or later"
)
TINY = Recipe(
    hidden_size=16, layers=1, neurons_per_layer=24, heads=2, text_steps=2, text_rows=2,
    text_row_tokens=32, dialogue_steps=2, dialogue_rows=1, mixed_text_rows=1,
    dialogue_row_tokens=48, warmup_steps=1, constant_steps=2,
    restarts=(Restart(steps=2, peak_rate=1e-3, seed=7),),
)  # fmt: skip


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text of the grammar, one file per language, longer than what is held out."""
    folder = tmp_path_factory.mktemp("text")
    world = load_world()
    for code in LANGUAGE_CODES:
        pack = load_language_pack(code)
        lines = [
            pack.render(frame, pack.reply[frame.name][0], next(iter(world.combinations(frame))))
            for frame in world.frames.values()
        ]
        repeats = HELD_OUT_LINES // len(lines) + 8
        (folder / f"{code}.txt").write_text("\n".join(lines * repeats), encoding="utf-8")
    return folder


@needs_muon
def test_interrupted_run_ends_with_the_same_weights(text_folder: Path, tmp_path: Path) -> None:
    def run(work: str, out: str, recipe: Recipe) -> None:
        train(recipe, text=text_folder, work=tmp_path / work, out=tmp_path / out, checkpoint_s=1e9)

    run("whole", "whole_out", TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "steps", property(lambda self: 3))  # stopped after the third step
        patch.setattr(Recipe, "rate", lambda self, step: _rate(step))
        patch.setattr("demo_model.train.export_weights", lambda *_: None)
        run("parts", "parts_out", TINY)
    run("parts", "parts_out", TINY)

    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole_out")
    parts = AutoModelForCausalLM.from_pretrained(tmp_path / "parts_out")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    assert whole.dtype == torch.float16
    ends = [load_file(tmp_path / "parts" / f"end-{step}.safetensors") for step in (4, 6)]
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(ends[0][name], ends[1][name])
    mean = (ends[0][name].double() + ends[1][name].double()) / 2
    assert torch.equal(whole.state_dict()[name], mean.half())
    assert whole.generation_config.do_sample is False
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole_out")
    assert tokenizer.chat_template


def _rate(step: int) -> float:
    progress = max(0, step - TINY.constant_steps) / (4 - TINY.constant_steps)
    return TINY.peak_rate * min((step + 1) / TINY.warmup_steps, max(1 - progress**0.5, 0.01))


@needs_muon
def test_another_recipe_in_the_same_folder_is_refused(text_folder: Path, tmp_path: Path) -> None:
    train(TINY, text=text_folder, work=tmp_path, out=tmp_path / "out", checkpoint_s=1e9)

    with pytest.raises(SystemExit, match="another recipe"):
        train(
            replace(TINY, seed=1), text=text_folder, work=tmp_path, out=tmp_path / "out",
            checkpoint_s=1e9,
        )  # fmt: skip


def test_missing_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"en\.txt, zh\.txt"):
        training_lines(tmp_path)


def test_training_and_held_out_lines_together_are_the_file(text_folder: Path) -> None:
    seen, unseen = training_lines(text_folder), held_out_lines(text_folder)

    assert len(unseen["fr"]) == HELD_OUT_LINES
    total = len((text_folder / "fr.txt").read_text(encoding="utf-8").splitlines())
    assert len(seen["fr"]) + len(unseen["fr"]) == total


def test_dialogue_ids_are_those_of_the_chat_template(text_folder: Path) -> None:
    lines = {code: rows[:60] for code, rows in training_lines(text_folder).items()}
    tokenizer = train_tokenizer(lines)
    turns = [Turn("Hi!", "Hello.", "en", "en", "hello"), Turn("Ça va ?", "Oui.", "fr", "fr", "x")]
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in (("user", turn.question), ("assistant", turn.answer))
    ]

    ids, labels = BatchMaker(tokenizer, lines)._encode(turns)

    assert ids == tokenizer.apply_chat_template(messages, return_dict=False)
    answers = [i for i, label in zip(ids, labels, strict=True) if label != NO_LOSS]
    assert tokenizer.decode(answers) == "Hello.<|end|>Oui.<|end|>"


def test_batches_depend_on_seed_and_step_alone(text_folder: Path) -> None:
    lines = {code: rows[:200] for code, rows in training_lines(text_folder).items()}
    tokenizer = train_tokenizer(lines)
    first, second = (BatchMaker(tokenizer, lines) for _ in range(2))

    for make in ("text_batch", "dialogue_batch"):
        a = getattr(first, make)(0, 5, rows=2, tokens=40)
        b = getattr(second, make)(0, 5, rows=2, tokens=40)
        other = getattr(first, make)(0, 6, rows=2, tokens=40)
        reseeded = getattr(first, make)(1, 5, rows=2, tokens=40)
        assert torch.equal(a.input_ids, b.input_ids)
        assert torch.equal(a.labels, b.labels)
        assert not torch.equal(a.input_ids, other.input_ids)
        assert not torch.equal(a.input_ids, reseeded.input_ids)


def test_rate_rises_again_at_every_restart_and_falls_to_a_hundredth() -> None:
    first, second = Restart(10, 1e-3, seed=1), Restart(20, 2e-3, seed=2)
    recipe = Recipe(
        text_steps=200, dialogue_steps=300, constant_steps=250, restarts=(first, second)
    )

    assert recipe.steps == 530
    assert [recipe.part_of(step) for step in (499, 500, 509, 510, 529)] == [
        (None, 499),
        (first, 0),
        (first, 9),
        (second, 0),
        (second, 19),
    ]
    assert recipe.rate(240) == recipe.peak_rate
    assert recipe.rate(499) == recipe.peak_rate / 100
    assert recipe.rate(500) < recipe.rate(501)
    assert Restart(5000, 1e-3, seed=1).rate(1000) == 1e-3
    assert Restart(5000, 1e-3, seed=1).rate(4999) == pytest.approx(1e-5)


def test_written_corpus_is_readable_and_repeatable(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", dialogues=5, lines=5, seed=1)
    write_corpus(tmp_path / "b", dialogues=5, lines=5, seed=1)
    languages = [LANGUAGES[code] for code in LANGUAGE_CODES]

    first = open_corpus(tmp_path / "a" / "dialogues", languages, kind="dialogues")
    second = open_corpus(tmp_path / "b" / "dialogues", languages, kind="dialogues")

    texts = [[list(iter_dialogues(one, lang)) for lang in languages] for one in (first, second)]
    assert texts[0] == texts[1]
    assert len(list(iter_dialogues(first, LANGUAGES["ja"]))) == 5
