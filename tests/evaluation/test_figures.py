"""Figures of a study: what is drawn, in codes, with the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steering.errors import SettingsError
from steering.evaluation.figures import (
    SHARING_GROUPS,
    layers_caption,
    plot_layers,
    plot_overlap,
    plot_perplexity,
    plot_sharing,
)
from steering.evaluation.perplexity import PerplexityChange
from steering.evaluation.set_shape import count_shared
from steering.neuron_set import NeuronSet
from tests.toy import EN, FR, JA, make_toy_set, without_neurons

CHANGE = PerplexityChange(
    languages=(FR, JA, EN),
    base_nll_nats=(1.0, 2.0, 3.0),
    change_nats=((0.5, 0.1, 0.0), (0.2, 0.7, 0.1), (0.0, -0.1, 0.4)),
    random_change_nats=((0.01, 0.02, 0.0), (0.03, 0.04, 0.0), (0.0, 0.0, 0.05)),
    neuron_counts=(3, 4, 5),
)
SHARES = dict(zip(SHARING_GROUPS, [(0.5, 0.1), (0.2, 0.2), (0.2, 0.3), (0.1, 0.4)], strict=True))

PLOTS: dict[str, Callable[[Path], None]] = {
    "layers": lambda path: plot_layers(make_toy_set(), path),
    "layers of nothing": lambda path: plot_layers(without_neurons(make_toy_set()), path),
    "overlap": lambda path: plot_overlap(make_toy_set(), path),
    "overlap of nothing": lambda path: plot_overlap(without_neurons(make_toy_set()), path),
    "perplexity": lambda path: plot_perplexity(CHANGE, path),
    "sharing": lambda path: plot_sharing(SHARES, path),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are saved, to look at what is in them."""
    figures: list[Figure] = []
    save = Figure.savefig

    def collect(figure: Figure, *args: object, **options: object) -> None:
        figures.append(figure)
        save(figure, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", collect)
    return figures


def labels(axes: Axes, axis: str) -> list[str]:
    return [tick.get_text() for tick in getattr(axes, f"get_{axis}ticklabels")()]


def cells(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_same_input_gives_the_same_bytes_whatever_the_settings(
    tmp_path: Path, plot: Callable[[Path], None], suffix: str
) -> None:
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"

    plot(path)
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None}):
        plot(again)

    assert path.read_bytes() == again.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, again]


def test_layers_are_bars_of_every_languages_counts(
    toy_set: NeuronSet, tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_layers(toy_set, tmp_path / "a.png")

    axes = drawn[0].axes
    assert [one.get_ylabel() for one in axes] == [str(lang) for lang in toy_set.languages]
    for one, language in zip(axes, toy_set.languages, strict=True):
        heights = [bar.get_height() for bar in one.patches]  # type: ignore[attr-defined]
        assert heights == toy_set.layer_counts(language)
    first, last = toy_set.layer_counts(FR)
    total = first + last
    assert cells(axes[0]) == [f"{total}\nfirst {first / total:.0%}, last {last / total:.0%}"]
    assert cells(axes[-1]) == ["0"]


def test_caption_counts_the_memberships_of_the_outer_quarters(toy_set: NeuronSet) -> None:
    first = sum(toy_set.layer_counts(language)[0] for language in toy_set.languages)
    last = sum(toy_set.layer_counts(language)[1] for language in toy_set.languages)

    caption = layers_caption(toy_set)

    assert f"{first / (first + last):.0%} lie in the first quarter" in caption
    assert f"(the first 1 of 2) and {last / (first + last):.0%} in the last" in caption
    assert layers_caption(without_neurons(toy_set)) == "No language has neurons in this set."


def test_overlap_has_the_shared_neurons_in_its_cells_and_own_ones_on_the_diagonal(
    toy_set: NeuronSet, tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_overlap(toy_set, tmp_path / "a.png")

    axes, shared = drawn[0].axes[0], count_shared(toy_set)
    codes = [str(language) for language in toy_set.languages]
    assert labels(axes, "x") == labels(axes, "y") == codes
    assert len(cells(axes)) == len(codes) ** 2
    assert cells(axes)[0] == str(int(shared[0, 0]))
    either = int(shared[0, 0] + shared[1, 1] - shared[0, 1])
    assert cells(axes)[1] == f"{int(shared[0, 1]) / either:.2f}\n({int(shared[0, 1])})"


def test_both_perplexity_matrices_have_one_scale_and_a_number_in_every_cell(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_perplexity(CHANGE, tmp_path / "a.svg")

    own, random, _ = drawn[0].axes
    assert own.images[0].get_array().tolist() == [list(row) for row in CHANGE.change_nats]  # type: ignore[union-attr]
    assert random.images[0].get_array().tolist() == [  # type: ignore[union-attr]
        list(row) for row in CHANGE.random_change_nats
    ]
    assert own.images[0].get_clim() == random.images[0].get_clim() == (-0.1, 0.7)
    assert cells(own)[:3] == ["+0.50", "+0.10", "+0.00"]
    assert labels(own, "x") == labels(own, "y") == ["fr", "ja", "en"]


def test_sharing_is_stacked_in_the_order_of_the_groups_up_to_one(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_sharing(dict(reversed(SHARES.items())), tmp_path / "a.png")

    bars = [(bar.get_y(), bar.get_height()) for bar in drawn[0].axes[0].patches]  # type: ignore[attr-defined]
    heights = [share for group in SHARES.values() for share in group]
    assert [height for _, height in bars] == pytest.approx(heights)
    assert bars[2][0] == 0.5
    assert bars[6][0] + bars[6][1] == pytest.approx(1)


BAD_SHARES = {
    "nothing": ({}, "0' measurements"),
    "another group": ({**SHARES, "odd": (0.0, 0.0)}, "Expected these four"),
    "a group is missing": ({"specific": (1.0,)}, "Expected these four"),
    "lengths": ({**SHARES, "specific": (0.2,)}, r"'1, 2' layers"),
    "no layers": (dict.fromkeys(SHARING_GROUPS, ()), "'0' layers"),
    "sum": ({**SHARES, "specific": (0.2, 0.4)}, r"layer 1 are '1\.1'"),
    "not a number": ({**SHARES, "specific": (0.2, float("nan"))}, r"layer 1 are 'nan'"),
}


@pytest.mark.parametrize("case", BAD_SHARES)
def test_other_shares_are_refused_in_words(tmp_path: Path, case: str) -> None:
    shares, expected = BAD_SHARES[case]

    with pytest.raises(SettingsError, match=expected):
        plot_sharing(shares, tmp_path / "a.png")

    assert not list(tmp_path.iterdir())
