"""A change does to the neurons of a group what it says, to no others, and nothing is left of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from steering.errors import CorpusError
from steering.evaluation import sharing_accuracy
from steering.evaluation.parallel_prompts import ParallelPrompt
from steering.evaluation.sharing_accuracy import (
    AccuracyOptions,
    Change,
    default_changes,
    measure_change,
)
from steering.evaluation.sharing_report import accuracy_markdown
from steering.generation import generate
from steering.hooks import count_hooks
from steering.loading import LoadedModel
from steering.sharing import GROUPS
from steering.steerer import steered
from steering.steering_plan import EVERY_POSITION, plan_from_neurons
from steering.token_choice import Sampling
from tests.toy import EN, FR

LoadTiny = Callable[..., LoadedModel]

LANGUAGES = (EN, FR)
SHORT = AccuracyOptions(max_new_tokens=8)
PROMPTS = [
    ParallelPrompt({EN: "Where is the cat?", FR: "Où est le chat ?"}, {EN: ("x",), FR: ("y",)}),
    ParallelPrompt({EN: "And who are you?", FR: "Et qui es-tu ?"}, {EN: ("x",), FR: ("y",)}),
]


@pytest.fixture
def groups() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 4, (2, 2, 48), generator=generator, dtype=torch.uint8)


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is answered, by prompt."""
    found: dict[str, str] = {}

    def note(model: LoadedModel, prompts: list[str], *, sampling: Sampling) -> list[str]:
        texts = generate(model, prompts, sampling=sampling)
        found.update(zip(prompts, texts, strict=True))
        return texts

    monkeypatch.setattr(sharing_accuracy, "generate", note)
    return found


@pytest.mark.parametrize("factor", [0.0, 3.0])
def test_replies_are_those_of_weights_that_were_changed_by_hand(
    load_tiny: LoadTiny, groups: Tensor, replies: dict[str, str], factor: float
) -> None:
    model = load_tiny("llama")
    downs = [layer.mlp.down_proj for layer in model.model.model.layers]
    sampling = Sampling(max_new_tokens=8)

    measure_change(model, LANGUAGES, PROMPTS, groups, Change("specific", factor), options=SHORT)

    for prompt, groups_LN in zip(PROMPTS, groups, strict=True):
        texts = list(prompt.texts.values())
        plain = generate(model, texts, sampling=sampling)
        kept = [down.weight.clone() for down in downs]
        try:
            for layer, index in (groups_LN == GROUPS.index("specific")).nonzero().tolist():
                downs[layer].weight[:, index] *= factor
            by_hand = generate(model, texts, sampling=sampling)
        finally:
            for down, weight in zip(downs, kept, strict=True):
                down.weight.copy_(weight)
        assert [replies[text] for text in texts] == by_hand
        assert by_hand != plain
    assert count_hooks(model.model) == 0


@pytest.mark.parametrize(
    ("positions", "phases"), [("every", EVERY_POSITION), ("onset", ("onset",))]
)
def test_positions_are_those_of_the_plan_that_says_the_same(
    load_tiny: LoadTiny, groups: Tensor, replies: dict[str, str], positions: str, phases: tuple[str]
) -> None:
    model = load_tiny("llama")
    options = AccuracyOptions(positions=positions, max_new_tokens=8)  # type: ignore[arg-type]

    measure_change(model, LANGUAGES, PROMPTS, groups, Change("all-shared", 0.0), options=options)

    for prompt, groups_LN in zip(PROMPTS, groups, strict=True):
        layer, index = (groups_LN == GROUPS.index("all-shared")).nonzero().T
        zeros = torch.zeros(len(layer))
        plan = plan_from_neurons(
            site="value",
            phases=phases,
            layer=layer,
            index=index,
            scale=zeros,
            shift=zeros,  # type: ignore[arg-type]
        )
        for text in prompt.texts.values():
            with steered(model.model, [plan]):
                assert generate(model, [text], sampling=Sampling(8)) == [replies[text]]
    assert count_hooks(model.model) == 0


def test_batch_size_changes_no_reply(
    load_tiny: LoadTiny, groups: Tensor, replies: dict[str, str]
) -> None:
    model, change = load_tiny("llama"), Change("partial-shared", 0.0)
    measure_change(model, LANGUAGES, PROMPTS, groups, change, options=SHORT)
    together = dict(replies)

    one = AccuracyOptions(max_new_tokens=8, batch_rows=1)
    measure_change(model, LANGUAGES, PROMPTS, groups, change, options=one)

    assert replies == together
    assert len(replies) == 4


def test_as_many_random_neurons_of_every_layer_are_changed(groups: Tensor) -> None:
    scales = {
        (seed, place, group): sharing_accuracy._scale(
            groups[place], Change(group, 0.0, is_random=True), f"{seed}:{place}"
        )
        for seed in (0, 1)
        for place in (0, 1)
        for group in GROUPS
    }

    for (_, place, group), scale in scales.items():
        own = groups[place] == GROUPS.index(group)
        assert torch.equal((scale == 0).sum(dim=1), own.sum(dim=1))
        assert not torch.equal(scale == 0, own)
    drawn = {scale.numpy().tobytes() for scale in scales.values()}
    assert len(drawn) == len(scales)
    again = sharing_accuracy._scale(groups[1], Change("specific", 0.0, is_random=True), "1:1")
    assert torch.equal(again, scales[1, 1, "specific"])


def test_right_answers_are_counted_per_language_and_in_any(
    load_tiny: LoadTiny, groups: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        "Where is the cat?": "it is x",
        "Où est le chat ?": "it is x",
        "And who are you?": "nobody",
        "Et qui es-tu ?": "y !",
    }
    monkeypatch.setattr(
        sharing_accuracy, "generate", lambda _, texts, **__: [told[text] for text in texts]
    )
    counted: list[int] = []

    outcome = measure_change(
        load_tiny("llama"), LANGUAGES, PROMPTS, groups, Change(), progress=counted.append
    )

    assert (outcome.right.successes, outcome.right.trials) == (2, 4)
    assert outcome.right_anywhere.successes == 3
    assert {one: share.successes for one, share in outcome.by_language.items()} == {EN: 1, FR: 1}
    assert outcome.neurons == 0
    assert sum(counted) == 4
    found = json.loads(json.dumps(outcome.to_json()))
    assert found["right_interval"] == list(outcome.right.interval())
    table = accuracy_markdown([outcome])
    assert "| no change | 0 | 50.0% | 15.0% to 85.0% | 75.0% | 50.0% | 50.0% |" in table


def test_no_change_answers_as_the_model_does(
    load_tiny: LoadTiny, groups: Tensor, replies: dict[str, str]
) -> None:
    model = load_tiny("llama")

    measure_change(model, LANGUAGES, PROMPTS, groups, Change(), options=SHORT)

    for text, reply in replies.items():
        assert generate(model, [text], sampling=Sampling(8)) == [reply]


def test_every_group_and_factor_has_its_random_twin() -> None:
    changes = default_changes([1.5])

    assert changes[0] == Change()
    own = {(one.group, one.factor) for one in changes[1:] if not one.is_random}
    random = {(one.group, one.factor) for one in changes[1:] if one.is_random}
    assert own == random == {*((group, 0.0) for group in GROUPS), ("all-shared", 1.5)}
    assert len({one.name for one in changes}) == len(changes) == 11


def test_a_task_without_answers_is_refused(load_tiny: LoadTiny, groups: Tensor) -> None:
    bare = [PROMPTS[0], ParallelPrompt(PROMPTS[1].texts, {})]

    with pytest.raises(CorpusError, match="Prompt '2' has no answer"):
        measure_change(load_tiny("llama"), LANGUAGES, bare, groups, Change())
