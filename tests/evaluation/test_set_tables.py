"""The tables of `compare-sets`, against what stands in small matrices."""

from __future__ import annotations

from steering.evaluation.perplexity import PerplexityChange
from steering.evaluation.set_tables import perplexity_markdown
from tests.toy import EN, FR, JA


def test_perplexity_is_the_mean_of_the_diagonal_of_the_others_and_of_the_random_diagonal() -> None:
    change = PerplexityChange(
        languages=(EN, FR, JA),
        base_nll_nats=(1.0, 2.0, 3.0),
        change_nats=((0.9, 0.1, 0.2), (0.3, 0.6, 0.7), (0.0, -0.1, 0.3)),
        random_change_nats=((0.01, 0.5, 0.5), (0.5, 0.02, 0.5), (0.5, 0.5, 0.06)),
        neuron_counts=(3, 4, 5),
    )

    assert perplexity_markdown({"mine": change}).splitlines() == [
        "| set | own suffers most | own, nats | others, nats | own, random neurons, nats |",
        "|---|---|---|---|---|",
        "| mine | 2 of 3 | +0.600 | +0.200 | +0.030 |",
    ]
