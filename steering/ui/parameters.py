"""Checks what programs give to the page's endpoints, as Gradio passes anything on.

Knows kinds and ranges, no endpoint.
"""

from collections.abc import Mapping

from steering.errors import GenerationError

_SEEDS = range(-(2**63), 2**63)  # as the OpenAI-compatible API takes


def refuse_other_kinds(
    named: Mapping[str, object], kind: type | tuple[type, ...], expected: str
) -> None:
    """Refuse values that are of another kind than their parameter.

    Raises:
        GenerationError: If one is.
    """
    for name, value in named.items():
        is_number = isinstance(value, bool) and kind is not bool  # to Python it is one
        if is_number or not isinstance(value, kind):
            raise GenerationError(f"'{name}' is '{value}'. Expected {expected}; correct it.")


def check_seed(seed: object) -> None:
    """Refuse what is no whole number of 64 bits.

    Raises:
        GenerationError: If it is none.
    """
    refuse_other_kinds({"seed": seed}, int, "a whole number")
    if seed not in _SEEDS:
        raise GenerationError(
            f"'seed' is '{str(seed)[:30]}'. Expected {_SEEDS.start} to {_SEEDS.stop - 1}; "
            "correct it."
        )
