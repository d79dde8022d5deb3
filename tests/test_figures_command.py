"""`figures`: what it writes, and that it writes nothing where an input cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steering.cli.main import main
from steering.neuron_set_file import save_neuron_set
from tests.toy import TOY_IDENTITY, make_toy_set

FORCING = {"methods": {"none": {"lfs": 0.5, "content": 0.25, "n": 4}}}
PERPLEXITY = {
    "languages": ["en", "fr"],
    "base_nll_nats": [1.0, 2.0],
    "neuron_counts": [3, 4],
    "lape": {"change_nats": [[0.5, 0.1], [0.2, 0.7]]},
    "random": {"change_nats": [[0.01, 0.02], [0.0, 0.04]]},
}
SHARING = {
    "shares": {
        "all-shared": [0.5, 0.1],
        "partial-shared": [0.2, 0.2],
        "specific": [0.2, 0.3],
        "non-activated": [0.1, 0.4],
    }
}
MEASURED = {"--forcing": FORCING, "--perplexity": PERPLEXITY, "--sharing": SHARING}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(), path)
    return path


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_figure_is_written_with_its_caption(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    out = tmp_path / "new" / "folder"
    measured = []
    for flag, content in MEASURED.items():
        file = tmp_path / f"{flag[2:]}.json"
        file.write_text(json.dumps(content))
        measured += [flag, str(file)]

    options = ["--neuron-set", str(toy), "--out", str(out), "--format", suffix]
    assert main(["figures", *options, *measured]) == 0

    names = [
        f"{name}.{suffix}" for name in ("forcing", "layers", "overlap", "perplexity", "sharing")
    ]
    assert sorted(path.name for path in out.iterdir()) == names
    shown = capsys.readouterr().out
    assert "in the first quarter of the layers" in shown
    assert "dominates for 2 of 2 languages by row" in shown


def test_a_set_alone_gives_the_two_figures_of_the_set(toy: Path, tmp_path: Path) -> None:
    assert main(["figures", "--neuron-set", str(toy), "--out", str(tmp_path / "out")]) == 0

    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["layers.svg", "overlap.svg"]


@pytest.mark.parametrize(
    ("of_file", "problem"),
    [
        ({"model": "other"}, "'other' (not known), but the neuron set is of 'toy' (local)"),
        (
            {"model": "toy", "tokenizer_sha256": "1" * 64, "model_revision": "local"},
            "'toy' (local)",
        ),
        ({"model": "toy", "model_revision": "sha256:0000"}, None),
        ({"model": "copy/of/toy", "model_revision": "local"}, None),
        ({"model": "toy"}, None),
    ],
)
@pytest.mark.parametrize("flag", MEASURED)
def test_numbers_of_another_model_are_refused_by_name(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str,
    of_file: dict[str, str], problem: str | None,
) -> None:  # fmt: skip
    file, out = tmp_path / "measured.json", tmp_path / "out"
    file.write_text(json.dumps(of_file | MEASURED[flag]))

    code = main(["figures", "--neuron-set", str(toy), "--out", str(out), flag, str(file)])

    assert (code, out.exists()) == ((0, True) if problem is None else (1, False))
    error = capsys.readouterr().err
    assert problem is None or problem in error


def test_weights_that_are_known_must_be_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    neurons, file = tmp_path / "toy.safetensors", tmp_path / "s.json"
    save_neuron_set(make_toy_set(replace(TOY_IDENTITY, revision="sha256:1111")), neurons)
    file.write_text(json.dumps({"model": "toy", "model_revision": "sha256:2222", **SHARING}))
    options = ["--neuron-set", str(neurons), "--out", str(tmp_path / "out")]

    assert main(["figures", *options, "--sharing", str(file)]) == 1

    assert "'toy' (sha256:2222), but the neuron set is of 'toy' (sha256:1111)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("flag", [*MEASURED, "--neuron-set"])
def test_a_file_that_cannot_be_read_leaves_nothing_drawn(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    out = tmp_path / "out"

    options = ["--neuron-set", str(toy), "--out", str(out), flag, str(broken)]
    assert main(["figures", *options]) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert not out.exists()


def test_a_target_that_is_a_file_is_refused(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--neuron-set", str(toy), "--out", str(toy)]) == 1

    assert "Cannot make the folder" in capsys.readouterr().err
