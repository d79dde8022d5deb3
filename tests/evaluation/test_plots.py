"""Plots: what is drawn, that the bytes are always the same, and that a failure leaves nothing."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steering.errors import SettingsError
from steering.evaluation.forcing import ForcingPrompt, ForcingResult, judge_reply
from steering.evaluation.plots import check_plot_path, plot_curve, plot_forcing, plot_matrix
from steering.evaluation.proportions import Proportion
from steering.evaluation.report import CurvePoint
from steering.languages import LANGUAGES

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))
FRENCH = "Le hibou dort dans le vieux chêne derrière la grange."
ENGLISH = "The owl sleeps in the old oak tree behind the barn."
POINTS = [
    CurvePoint(2.0, Proportion(9, 10), 2.5),
    CurvePoint(0.0, Proportion(0, 10), 1.0),
    CurvePoint(4.0, Proportion(10, 10), float("nan")),
]


def result(*replies: str, right: str | None = FRENCH) -> ForcingResult:
    """Replies to prompts in English and Japanese in turn, all for French."""
    is_right = None if right is None else lambda reply: reply == right
    outcomes = [
        judge_reply(ForcingPrompt("?", "?", [EN, JA][n % 2], FR, is_right), r, languages=(EN, FR))
        for n, r in enumerate(replies)
    ]
    return ForcingResult("mine", tuple(outcomes))


def results() -> dict[str, ForcingResult]:
    return {"none": result(ENGLISH), "all": result(FRENCH), "lape": result(FRENCH, ENGLISH)}


PLOTS: dict[str, Callable[[Path], None]] = {
    "forcing": lambda path: plot_forcing(results(), path),
    "matrix": lambda path: plot_matrix(result(FRENCH, ENGLISH), path),
    "curve": lambda path: plot_curve(POINTS, path, levels={"normal": 2.0}, title="mine"),
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


@pytest.mark.parametrize("suffix", [".png", ".svg", ".PNG"])
@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_same_input_gives_the_same_bytes_and_nothing_else_in_the_folder(
    tmp_path: Path, plot: Callable[[Path], None], suffix: str
) -> None:
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"

    plot(path)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": None}):
        plot(again)

    assert path.read_bytes() == again.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, again]


def test_suffix_decides_the_format(tmp_path: Path) -> None:
    plot_forcing(results(), tmp_path / "a.png")
    plot_forcing(results(), tmp_path / "a.svg")

    png, svg = (tmp_path / "a.png").read_bytes(), (tmp_path / "a.svg").read_text()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">I", png[16:20]) == (7 * 150,)
    assert svg.startswith("<?xml")
    assert not re.search(r"<dc:date>|Matplotlib v", svg)
    assert b"Software" not in png


def test_bars_are_the_rates_and_whiskers_their_intervals(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_forcing(results(), tmp_path / "a.png")

    (axes,) = drawn[0].axes
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert widths == [0, 1, 0.5, 0, 1, 0.5]  # LFS of the three, then content
    (segments, *_) = [lines.get_segments() for lines in axes.collections]  # type: ignore[attr-defined]
    got = [(low[0], high[0]) for low, high in segments]
    assert got == [pytest.approx(r.lfs.interval(), abs=1e-9) for r in results().values()]
    assert labels(axes, "y") == ["none (n=1)", "all (n=1)", "lape (n=2)"]


def test_where_nobody_can_tell_there_is_no_bar_for_content(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_forcing({"a": result(FRENCH, right=None), "b": result(FRENCH)}, tmp_path / "a.png")

    assert len(drawn[0].axes[0].patches) == 3


@pytest.mark.parametrize("trials", [1, 7, 10, 46])
def test_rounding_at_none_and_all_does_not_turn_whiskers_around(
    tmp_path: Path, drawn: list[Figure], trials: int
) -> None:
    """A bound may lie a rounding error beyond the rate, which matplotlib refuses to draw."""
    points = [CurvePoint(0, Proportion(0, trials), 1), CurvePoint(1, Proportion(trials, trials), 1)]

    plot_curve(points, tmp_path / "a.png")

    assert len(drawn) == 1


def test_matrix_is_drawn_by_prompt_and_target_in_codes(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_matrix(result(FRENCH, ENGLISH), tmp_path / "a.png")

    axes = drawn[0].axes[0]
    assert axes.images[0].get_array().tolist() == [[1.0], [0.0]]  # type: ignore[union-attr]
    assert labels(axes, "y") == ["en", "ja"]
    assert labels(axes, "x") == ["fr"]
    assert [text.get_text() for text in axes.texts] == ["100%", "0%"]


def test_curve_is_in_order_of_strength_with_the_levels_marked(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_curve(POINTS, tmp_path / "a.png", levels={"gentle": 1.0, "normal": 2.0}, title="fr")

    success, quality = drawn[0].axes
    assert list(success.lines[0].get_xdata()) == [0, 2, 4]
    assert list(success.lines[0].get_ydata()) == [0, 0.9, 1]
    assert list(quality.lines[0].get_ydata())[:2] == [1.0, 2.5]
    assert [text.get_text() for text in success.texts] == ["gentle", "normal"]
    assert [text.get_position()[0] for text in success.texts] == [1, 2]
    assert success.get_title() == "fr"


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.png.txt"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"no format of plots\. Expected .* \.png or \.svg"):
        plot_curve(POINTS, tmp_path / name)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_a_folder_that_is_missing_is_one_plain_error(
    tmp_path: Path, plot: Callable[[Path], None]
) -> None:
    path = tmp_path / "none" / "a.png"

    with pytest.raises(SettingsError, match=rf"Cannot write '{path}': .*Expected a file name in"):
        plot(path)
    with pytest.raises(SettingsError, match="Cannot write"):
        check_plot_path(path)


def test_a_target_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()

    with pytest.raises(SettingsError, match="Cannot write"):
        plot_curve(POINTS, tmp_path / "a.png")


def test_a_disk_that_fills_up_leaves_the_old_plot_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.svg"
    path.write_text("the old one")

    def fill_up(_: Figure, target: Path, **options: object) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fill_up)
    with pytest.raises(SettingsError, match=r"Cannot write '.*a\.svg': No space left on device"):
        plot_curve(POINTS, path)

    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_an_old_plot_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    """Whoever reads the old file meanwhile reads it to its end."""
    path = tmp_path / "a.svg"
    path.write_text("the old one")
    (tmp_path / "reader").hardlink_to(path)

    plot_curve(POINTS, path)

    assert path.read_text().startswith("<?xml")
    assert (tmp_path / "reader").read_text() == "the old one"


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    for plot in (
        lambda: plot_forcing({}, tmp_path / "a.png"),
        lambda: plot_matrix(result(), tmp_path / "a.png"),
        lambda: plot_curve([], tmp_path / "a.png"),
    ):
        with pytest.raises(SettingsError, match=r"there are '0' measurements"):
            plot()
