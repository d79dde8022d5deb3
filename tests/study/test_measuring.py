"""What a part says at the top of a report is what was measured, beside its own control."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steering.evaluation.parallel_prompts import ParallelPrompt, ParallelPrompts
from steering.evaluation.proportions import Proportion
from steering.evaluation.sharing import SharingSummary
from steering.evaluation.sharing_accuracy import AccuracyOptions, Change, ChangeOutcome
from steering.sharing import GROUPS, by_layer
from steering.study import measuring
from tests.toy import EN, FR


def test_every_rate_of_right_answers_stands_before_that_of_its_own_random_neurons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = torch.tensor([[0.1, 0.3], [0.0, 0.2], [0.2, 0.2], [0.7, 0.3]])
    found = SharingSummary(
        languages=(EN, FR),
        threshold=0.0,
        prompts=1,
        shares=by_layer(table),
        share_spread=by_layer(torch.zeros(4, 2)),
        specific={EN: (0.1, 0.1), FR: (0.1, 0.1)},
        stability=None,
        contribution=by_layer(table),
        contribution_spread=by_layer(torch.zeros(4, 2)),
        effective=None,
        groups=torch.zeros(1, 2, 10, dtype=torch.uint8),
    )
    own = [Change(), *(Change(group, 0.0) for group in GROUPS), Change("all-shared", 1.5)]
    changes = [*own, *(Change(one.group, one.factor, True) for one in own[1:])]
    right = {change: Proportion(10 * place, 100) for place, change in enumerate(changes)}

    def measure(*arguments: object, **_: object) -> ChangeOutcome:
        change = next(one for one in arguments if isinstance(one, Change))
        return ChangeOutcome(change, 3.0, right[change], right[change], {EN: right[change]})

    monkeypatch.setattr(measuring, "sharing_changes", lambda: changes)
    monkeypatch.setattr(measuring, "measure_sharing", lambda *_, **__: found)
    monkeypatch.setattr(measuring, "measure_change", measure)
    monkeypatch.setattr(measuring, "plot_sharing", lambda _, path: path.write_text("<svg/>"))
    prompt = ParallelPrompt({EN: "?", FR: "?"}, {EN: ("!",), FR: ("!",)})
    asked = ParallelPrompts((EN, FR), (prompt,), has_answers=True)

    finding = measuring.measure_shared(
        tmp_path, lambda _: None, read=asked, model=None, options=AccuracyOptions()  # type: ignore[arg-type]  # nothing is measured
    )  # fmt: skip

    assert finding.summary == (
        "Of all neurons, on the mean of 1 prompts: 20.0% all-shared, 10.0% partial-shared, 20.0% "
        "specific, 50.0% non-activated. Right answers (as many random neurons): no change 0.0%; "
        "all-shared, off 10.0% (60.0%); partial-shared, off 20.0% (70.0%); specific, off 30.0% "
        "(80.0%); non-activated, off 40.0% (90.0%); all-shared, x 1.5 50.0% (100.0%)."
    )
