"""Every command once with good input, and one plain message for bad input."""

import functools
import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import steering
from steering.cli.main import main, make_parser
from steering.cli.provenance import read_commit
from steering.ffn_columns import with_column_norms
from steering.loading import load_model
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set, load_neuron_set, save_neuron_set
from steering.shipped_sets import find_shipped_set
from tests.toy import make_toy_set

ROOT = Path(__file__).resolve().parent.parent

TEXTS = {
    "en": "The cat sleeps on the sofa.\nWhere is the station?\n" * 20,
    "fr": "Le chat dort sur le canapé.\nOù est la gare ?\n" * 20,
    "ja": "猫はソファで寝ています。\n駅はどこですか。\n" * 20,
}

ENGLISH = ["The cat is on the sofa, and it is asleep."]


@pytest.fixture
def model_dir(tiny_model_dir: Callable[..., Path]) -> Path:
    return tiny_model_dir("llama")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for code, content in TEXTS.items():
        (folder / f"{code}.txt").write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    folder = tmp_path / "dialogues"
    folder.mkdir()
    for code in TEXTS:
        rows = [{"prompt": f"Hello {n}? Answer in {code}.", "answer": "ok"} for n in range(9)]
        content = "\n".join(map(json.dumps, rows))
        (folder / f"{code}.jsonl").write_text(content, encoding="utf-8")
    return folder


def build(model: Path, out: Path, *more: object) -> int:
    options = ["--model", model, "--quantize", "none", "--languages", "en,fr,ja", "--out", out]
    fractions = ["--select-fraction", "0.2", "--prob-quantile", "0.5"]
    return main(["build-set", *map(str, [*options, *fractions, *more])])


def test_build_set_twice_gives_the_same_bytes(
    model_dir: Path, text: Path, dialogues: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"

    assert build(model_dir, first, "--text", text, "--dialogues", dialogues) == 0
    assert build(model_dir, second, "--text", text, "--dialogues", dialogues) == 0

    assert first.read_bytes() == second.read_bytes()
    neurons = load_neuron_set(first)
    assert neurons.metadata.languages == ("en", "fr", "ja")
    assert set(neurons.value_means) == {"text", "onset", "body"}
    assert neurons.metadata.token_counts["onset"] == {"en": 9, "fr": 9, "ja": 9}
    assert neurons.column_norm is not None
    assert neurons.control is not None
    assert neurons.control.column_norm is not None


@pytest.mark.parametrize("is_allowed", [False, True])
def test_text_in_another_language_than_its_file_says_is_recorded_only_on_demand(
    is_allowed: bool, model_dir: Path, text: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (text / "fr.txt").write_text("\n".join(ENGLISH * 20), encoding="utf-8")
    out, more = tmp_path / "set.safetensors", ["--any-language"] if is_allowed else []

    assert build(model_dir, out, "--text", text, *more) == (0 if is_allowed else 1)

    assert out.exists() is is_allowed
    assert ("'fr.txt' is 100% in other languages" in capsys.readouterr().err) is not is_allowed


@pytest.mark.parametrize("batch", ["1", "8"])
def test_batch_size_changes_no_count(
    model_dir: Path, text: Path, tmp_path: Path, batch: str
) -> None:
    whole, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    build(model_dir, whole, "--text", text, "--batch-size", "3")

    build(model_dir, other, "--text", text, "--batch-size", batch)

    assert load_neuron_set(whole).activation_prob.equal(load_neuron_set(other).activation_prob)


def test_tokens_option_limits_what_is_counted(model_dir: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"

    build(model_dir, out, "--text", text, "--tokens", "50")

    counts = load_neuron_set(out).metadata.token_counts["text"]
    assert all(0 < count <= 50 for count in counts.values())


def test_inspect_shows_languages_and_layers(
    model_dir: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    build(model_dir, out, "--text", text)
    capsys.readouterr()

    assert main(["inspect", str(out)]) == 0

    shown = capsys.readouterr().out
    assert "2 layers x 48 neurons" in shown
    assert all(f"\n{code} " in shown for code in ("en", "fr", "ja"))


def test_inspect_writes_the_report_card_as_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = tmp_path / "toy.safetensors", tmp_path / "card.html"
    save_neuron_set(make_toy_set(), path)

    assert main(["inspect", str(path), "--html", str(page)]) == 0

    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert f"Wrote '{page}'." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["toy.safetensors", "card", "none/card.html"])
def test_inspect_refuses_a_target_that_is_no_page_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(), path)
    before = path.read_bytes()

    assert main(["inspect", str(path), "--html", str(tmp_path / name)]) == 1

    assert_one_plain_line(capsys.readouterr().err)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


FOREIGN_FILES = {
    "empty": b"",
    "cut": b"\xff\x00\x00\x00\x00\x00\x00\x00{",
    "zip": b"PK\x03\x04 archive/data.pkl",
    "page": b"<!doctype html><title>Not found</title>",
}


@pytest.mark.parametrize("content", FOREIGN_FILES.values(), ids=FOREIGN_FILES)
def test_inspect_refuses_a_foreign_file_and_writes_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "set.safetensors"
    path.write_bytes(content)

    assert main(["inspect", str(path), "--html", str(tmp_path / "card.html")]) == 1

    assert_one_plain_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == [path]


def test_inspect_refuses_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")

    assert main(["inspect", str(path)]) == 1

    assert_one_plain_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("Le chat dort sur le canapé du salon.", 0),
        ("The cat sleeps on the old sofa.", 1),
        ("42", 1),
    ],
)
def test_check_says_by_its_exit_code_whether_text_is_on_target(
    tmp_path: Path, content: str, code: int
) -> None:
    path = tmp_path / "reply.txt"
    path.write_text(content, encoding="utf-8")

    assert main(["check", "--expect", "fr", "--languages", "en,fr,ja", str(path)]) == code


def test_check_prints_every_line_with_its_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reply.txt"
    path.write_text("Le chat dort sur le canapé.\nThe dog is in the garden.\n", encoding="utf-8")

    main(["check", "--expect", "fr", str(path)])

    shown = capsys.readouterr().out
    assert "on_target" in shown
    assert "off_target" in shown
    assert "The dog is in the garden." in shown


MIXED = "Le chat dort. However, the dog is in the garden today. Il mange un 苹果 rouge."


def test_check_shows_what_stands_within_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reply.txt"
    path.write_text(MIXED, encoding="utf-8")

    assert main(["check", "--expect", "fr", str(path)]) == 1

    shown = capsys.readouterr().out.splitlines()
    assert any(row.startswith("! within") and row.endswith("garden today.") for row in shown)
    assert any(row.startswith("! Hani") and row.endswith("苹果") for row in shown)


def test_check_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "reply.txt"
    path.write_text(MIXED, encoding="utf-8")

    assert main(["check", "--expect", "fr", "--json", str(path)]) == 1

    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] == "off_target"
    assert [one["language"] for one in printed["sentences"]] == ["fr", "en", "fr"]
    assert printed["intrusions"] == [
        {"text": "苹果", "script": "Hani", "line": 0, "start": MIXED.index("苹果")}
    ]


def test_chat_answers_each_line(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    identity = load_model(str(model_dir), quantize="none").identity
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(identity), path)
    monkeypatch.setattr("sys.stdin", iter_lines("Hello\n", "And you?\n", ""))
    options = ["--model", str(model_dir), "--quantize", "none", "--neuron-set", str(path)]

    assert main(["chat", *options, "--language", "fr"]) == 0

    assert capsys.readouterr().out.count("\n") >= 2


class iter_lines:
    """A standard input with given lines."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)

    def isatty(self) -> bool:
        return False

    def readline(self) -> str:
        return next(self._lines)


def test_evaluate_forcing_and_perplexity_write_their_json(
    model_dir: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = load_model(str(model_dir), quantize="none").identity
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(identity), path)
    prompts = tmp_path / "prompts.jsonl"
    row = {"prompt": "Hello?", "language": "en", "target": "fr"}
    prompts.write_text(json.dumps(row) + "\n" + json.dumps(row | {"target": "ja"}) + "\n")
    common = ["--model", str(model_dir), "--quantize", "none", "--neuron-set", str(path)]
    out = tmp_path / "out.json"

    forcing = ["evaluate", "forcing", *common, "--prompts", str(prompts), "--json", str(out)]
    assert main(forcing) == 0
    written = json.loads(out.read_text())
    assert written["command"] == f"python -m steering {shlex.join(forcing)}"
    assert written["neuron_set_sha256"] == hash_neuron_set(load_neuron_set(path))
    assert datetime.fromisoformat(written["made_at"]).tzinfo is not None
    assert written["version"] == steering.__version__
    assert written["commit"] == read_commit(ROOT)
    methods = written["methods"]
    names = "none", "instruction", "random", "lape-paper", "lape", "diffmean", "default"
    assert set(methods) == set(names)
    assert all(len(row["lfs_interval"]) == 2 and row["lpr"] >= 0 for row in methods.values())
    assert all(0 <= row["lfs"] <= 1 and row["n"] == 2 for row in methods.values())

    for code in ("th", "sw"):
        (text / f"{code}.txt").write_text(TEXTS["en"], encoding="utf-8")
    assert main(["evaluate", "perplexity", *common, "--text", str(text), "--json", str(out)]) == 0
    numbers = json.loads(out.read_text())
    assert len(numbers["lape"]["change_nats"]) == len(numbers["languages"]) == 5
    assert "| off |" in capsys.readouterr().out


BAD_INPUT = {
    "unknown language": (["--languages", "en,jp"], "Did you mean 'ja'?"),
    "one language": (["--languages", "en"], "at least two"),
    "missing folder": (["--text", "{tmp}/nothing"], "No folder"),
    "missing file": (["--languages", "en,fr,ko"], "'ko.txt' is missing"),
    "fraction": (["--select-fraction", "7"], "Expected a fraction"),
    "batch": (["--batch-size", "0"], "at least 1"),
    "model": (["--model", "{tmp}/no-model"], "no-model"),
    "out folder": (["--out", "{tmp}/none/x.safetensors"], "Cannot write"),
    "phase without its corpus": (["--select-on", "onset"], "its corpus is missing"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_plain_message_and_writes_nothing(
    case: str, model_dir: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, expected = BAD_INPUT[case]
    out = tmp_path / "set.safetensors"
    filled = [part.replace("{tmp}", str(tmp_path)) for part in more]

    assert build(model_dir, out, "--text", text, *filled) == 1

    error = capsys.readouterr().err
    assert expected in error
    assert_one_plain_line(error)
    assert not list(tmp_path.glob("*set*"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "'fr.txt' is empty"), (b" \n\n", "is empty"), ("é".encode("latin-1"), "not UTF-8")],
)
def test_unreadable_text_is_named(
    content: bytes, expected: str, model_dir: Path, text: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (text / "fr.txt").write_bytes(content)

    assert build(model_dir, tmp_path / "set.safetensors", "--text", text) == 1

    *warnings, error = capsys.readouterr().err.splitlines(keepends=True)
    assert expected in "".join([*warnings, error])
    assert_one_plain_line(error)


def test_set_of_another_model_names_both(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(), path)
    options = ["--model", str(model_dir), "--quantize", "none", "--neuron-set", str(path)]

    assert main(["chat", *options, "--language", "fr"]) == 1

    error = capsys.readouterr().err
    assert "'toy'" in error
    assert str(model_dir) in error
    assert_one_plain_line(error)


def test_unknown_condition_is_refused(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(), path)

    for conditions in ("", ",", "magic", "lape@much", "default+lape", "lape/middle"):
        options = ["--neuron-set", str(path), "--conditions", conditions]
        assert main(["evaluate", "forcing", "--model", str(model_dir), *options]) == 1
        assert_one_plain_line(capsys.readouterr().err)


def test_usage_errors_exit_with_two() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["build-set"])

    assert stop.value.code == 2


def test_every_command_has_help() -> None:
    help_text = make_parser().format_help()

    assert all(name in help_text for name in ("build-set", "inspect", "check", "evaluate", "chat"))


def assert_one_plain_line(error: str) -> None:
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in error


def test_a_commit_is_known_in_a_checkout_alone(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert read_commit(tmp_path) is None
    git("init", "-q")
    assert read_commit(tmp_path) is None  # without a commit
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "one")

    assert read_commit(tmp_path) == git("rev-parse", "HEAD")
    assert read_commit(tmp_path / "inside") is None
    (tmp_path / "inside" / "file").write_text("2")
    assert read_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


def train_norms(model_dir: Path, *, seed: int = 0) -> None:
    """Give a saved model norms of its own, as training would."""
    file = model_dir / "model.safetensors"
    weights = load_file(file)
    random = torch.Generator().manual_seed(seed)
    for name in weights:
        if "norm" in name:
            weights[name] = 1 + 0.3 * torch.randn(weights[name].shape, generator=random)
    save_file(weights, file, metadata={"format": "pt"})


def test_an_older_set_gets_the_norms_of_its_model(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_norms(model_dir)
    identity = load_model(str(model_dir), quantize="none").identity
    old, out = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save_neuron_set(make_toy_set(replace(identity, norm_weights=None)), old)
    model = ["--model", str(model_dir), "--quantize", "none"]

    assert main(["update-set", str(old), *model, "--model-id", "org/model", "--out", str(out)]) == 0

    assert f"Wrote '{out}'." in capsys.readouterr().out
    updated = load_neuron_set(out)
    assert identity.norm_weights is not None
    assert updated.norm_weights is not None
    assert torch.equal(updated.norm_weights, identity.norm_weights)
    assert updated.metadata.model_id == "org/model"
    assert torch.equal(updated.index, load_neuron_set(old).index)
    loaded = load_model(str(model_dir), quantize="none")
    expected = with_column_norms(updated, loaded)
    assert updated.column_norm is not None
    assert updated.control is not None
    assert expected.control is not None
    assert torch.equal(updated.column_norm, expected.column_norm)
    assert torch.equal(updated.control.column_norm, expected.control.column_norm)


def test_a_set_of_another_model_is_not_updated(
    model_dir: Path, tmp_path: Path, toy_set: NeuronSet, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.safetensors"
    save_neuron_set(toy_set, path)
    before = path.read_bytes()

    assert main(["update-set", str(path), "--model", str(model_dir), "--quantize", "none"]) == 1

    assert "the tokenizers differ" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_without_a_named_set_the_one_that_ships_for_the_model_is_used_and_said(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train_norms(model_dir)
    shipped = tmp_path / "shipped"
    find = functools.partial(find_shipped_set, folder=shipped)
    monkeypatch.setattr("steering.cli.arguments.find_shipped_set", find)
    monkeypatch.setattr("sys.stdin", iter_lines("Hello\n", ""))
    chat = ["chat", "--model", str(model_dir), "--quantize", "none", "--language", "fr"]

    assert main(chat) == 1

    error = capsys.readouterr().err
    assert f"No neuron set ships for '{model_dir}'" in error
    assert "build-set" in error
    identity = load_model(str(model_dir), quantize="none").identity
    assert identity.norm_weights is not None
    slope = torch.linspace(-0.02, 0.02, 32)
    made_on = replace(identity, model_id="org/model", norm_weights=identity.norm_weights + slope)
    save_neuron_set(make_toy_set(made_on), shipped / "org-model.safetensors")

    assert main(chat) == 0

    notes = capsys.readouterr().err
    assert f"note: using the neuron set '{shipped / 'org-model.safetensors'}'" in notes
    assert "note: The neuron set was made on another copy" in notes


def test_chat_refuses_a_base_model(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = load_model(str(model_dir), quantize="none").identity
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(identity), path)
    (model_dir / "chat_template.jinja").unlink()
    options = ["--model", str(model_dir), "--quantize", "none", "--neuron-set", str(path)]

    assert main(["chat", *options, "--language", "fr"]) == 1

    assert "it is a base model" in capsys.readouterr().err
