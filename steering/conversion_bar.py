"""The progress bar that surfaces show while a GGUF file is converted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

from steering.gguf_models import ConversionProgress


@contextmanager
def conversion_bar() -> Iterator[ConversionProgress]:
    """Yield what `load_model` takes as its progress; the bar appears at the first call."""
    bar: tqdm[NoReturn] | None = None

    def show(done: float) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=100, unit="%", desc="converting the GGUF file", dynamic_ncols=True)
        bar.update(round(100 * done) - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
