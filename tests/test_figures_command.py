"""`figures`: what it writes, and that it writes nothing where an input cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steering.cli.main import main
from steering.neuron_set_file import save_neuron_set
from tests.toy import make_toy_set

FORCING = {"methods": {"none": {"lfs": 0.5, "content": 0.25, "n": 4}}}
PERPLEXITY = {
    "languages": ["en", "fr"],
    "base_nll_nats": [1.0, 2.0],
    "neuron_counts": [3, 4],
    "lape": {"change_nats": [[0.5, 0.1], [0.2, 0.7]]},
    "random": {"change_nats": [[0.01, 0.02], [0.0, 0.04]]},
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save_neuron_set(make_toy_set(), path)
    return path


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_figure_is_written_with_its_caption(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    forcing, perplexity = tmp_path / "f.json", tmp_path / "p.json"
    forcing.write_text(json.dumps(FORCING))
    perplexity.write_text(json.dumps(PERPLEXITY))
    out = tmp_path / "new" / "folder"
    measured = ["--forcing", str(forcing), "--perplexity", str(perplexity)]

    options = ["--neuron-set", str(toy), "--out", str(out), "--format", suffix]
    assert main(["figures", *options, *measured]) == 0

    names = [f"{name}.{suffix}" for name in ("forcing", "layers", "overlap", "perplexity")]
    assert sorted(path.name for path in out.iterdir()) == names
    shown = capsys.readouterr().out
    assert "in the first quarter of the layers" in shown
    assert "dominates for 2 of 2 languages by row" in shown


def test_a_set_alone_gives_the_two_figures_of_the_set(toy: Path, tmp_path: Path) -> None:
    assert main(["figures", "--neuron-set", str(toy), "--out", str(tmp_path / "out")]) == 0

    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["layers.svg", "overlap.svg"]


@pytest.mark.parametrize("flag", ["--forcing", "--perplexity", "--neuron-set"])
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
