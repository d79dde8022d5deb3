"""Serves page and API together: one process, one engine, one address.

The model is loaded in the engine's thread, so the page opens at once. A set that was not named is
found when the model is there: the one that was made here, else the one that ships for it.
"""

import contextlib
import gc
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from steering.api.answering import Service
from steering.api.application import make_api, routes_of
from steering.api.choosing import ServedModel
from steering.conversation import check_can_chat
from steering.conversion_bar import conversion_bar
from steering.engine import Engine
from steering.errors import SettingsError, SteeringError
from steering.guard import sentence_end_ids
from steering.loading import LoadedModel, load_model, read_identity
from steering.neuron_set import NeuronSet, OtherWeights
from steering.neuron_set_file import load_neuron_set
from steering.settings import Settings
from steering.shipped_sets import find_set_by_name
from steering.steerer import check_set_fits_model
from steering.ui.asking import Chat
from steering.ui.launching import build_page, close_page, open_page
from steering.ui.making.maker import SetMaker
from steering.zero_gpu import AnyEngine, ZeroGpuEngine, is_zero_gpu

log = logging.getLogger(__name__)

# What is being written at the end may be finished within this time; then the server has some more
# to say goodbye (`launching.py`). Together well below the 10 s after which Docker kills.
_FINISH_S = 3.0


def serve(settings: Settings) -> None:
    """Open page and API, and keep them open until the program is interrupted or terminated.

    Raises:
        SettingsError: If the address cannot be listened on, or the page does not answer there.
        NeuronSetFormatError: If the neuron set cannot be read.
    """
    _check_address(settings.server_name, settings.server_port)
    if is_zero_gpu() and settings.neuron_set is None:
        settings = settings.model_copy(update={"neuron_set": _shipped_for(settings.model)})
    neurons = None if settings.neuron_set is None else load_neuron_set(settings.neuron_set)
    may_load = threading.Event()
    warnings: list[OtherWeights] = []
    engine = _start_engine(settings, neurons, may_load, warnings)
    maker = None
    if isinstance(engine, Engine) and neurons is None:
        languages = settings.chosen_languages()
        maker = SetMaker(engine, settings.data, languages, warnings=warnings)
        maker.begin()
    chat = Chat(
        engine, neurons, settings.max_new_tokens, maker, settings.time_limit,
        settings.neuron_set, warnings,
    )  # fmt: skip
    service = Service(
        engine=engine,
        served=ServedModel(settings.model, lambda: chat.set_in_use),
        max_new_tokens=settings.max_new_tokens,
        time_limit_s=settings.time_limit,
    )
    page = build_page(chat, model=settings.model)
    try:
        with _termination_as_interrupt():
            _open(page, settings, service)
            may_load.set()
            gc.enable()  # off since `app.py` began
            gc.freeze()  # what was imported stays, and need not be looked at again
            _wait_for_interrupt()
    finally:
        if maker is not None:
            maker.stop()
        service.closing.has_begun = True
        may_load.set()  # the engine ends after what it has begun
        engine.close(timeout_s=_FINISH_S)
        service.closing.is_over = True
        close_page(page)


def _open(page: gr.Blocks, settings: Settings, service: Service) -> None:
    api = make_api(service, key=settings.api_key.get_secret_value())
    try:
        open_page(page, name=settings.server_name, port=settings.server_port, routes=routes_of(api))
    except OSError as err:  # taken since it was checked, or Gradio's server was too slow
        raise SettingsError(
            f"{_cannot_listen(settings.server_name, settings.server_port)} If nothing does, the "
            "machine was too busy; start again."
        ) from err
    except Exception as err:  # Gradio asks its own page whether it is there: ValueError, httpx's
        raise SettingsError(_does_not_answer(settings, err)) from err


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Take SIGTERM, which is how Docker and systemd end a program, as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait_for_interrupt() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _start_engine(
    settings: Settings,
    neurons: NeuronSet | None,
    may_load: threading.Event,
    warnings: list[OtherWeights],
) -> AnyEngine:
    """Start the engine; where a GPU is lent for each call, the model is loaded before the page.

    Elsewhere it is loaded when it may be, with the page open: the two would share Python's lock.
    """
    if not is_zero_gpu():
        return Engine(
            lambda: _load(settings, neurons, warnings, after=may_load),
            max_waiting=settings.max_waiting,
            max_rows=settings.max_rows,
        )
    if neurons is None:
        raise SettingsError(
            f"'LANGSTEER_NEURON_SET' is not set, and no set ships for '{settings.model}'. Expected "
            "a neuron set, as none can be made on ZeroGPU; build one elsewhere with "
            "`python -m steering build-set` and name it here."
        )
    from spaces import GPU  # there on such a Space alone

    # Quantising needs a GPU, which is not there yet.
    plain = settings.model_copy(update={"quantize": settings.quantize or "none"})
    return ZeroGpuEngine(lambda: _load(plain, neurons, warnings), gpu=GPU)


def _shipped_for(model: str) -> Path | None:
    """Return the set that ships for a model by its name, before its weights are there."""
    return find_set_by_name(read_identity(model))


def _load(
    settings: Settings,
    neurons: NeuronSet | None,
    warnings: list[OtherWeights],
    *,
    after: threading.Event | None = None,
) -> LoadedModel:
    """Load the model, in the engine's thread; what goes wrong is said on the console as well."""
    if after is not None:
        after.wait()
    try:
        with conversion_bar() as progress:
            model = load_model(
                settings.model,
                quantize=settings.quantize,
                device=settings.device,
                data=settings.data,
                progress=progress,
            )
        check_can_chat(model)
        if neurons is not None and (warning := check_set_fits_model(neurons, model)) is not None:
            log.warning("%s", warning)
            warnings.append(warning)
        sentence_end_ids(model.tokenizer)  # a second for a large vocabulary, kept
    except SteeringError as err:
        log.error("%s", err)
        raise
    except Exception:
        log.exception("Loading the model failed")
        raise
    return model


def _check_address(name: str, port: int) -> None:
    """Refuse an address before anything slow happens."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as err:
        raise SettingsError(_cannot_listen(name, port, err)) from err


def _does_not_answer(settings: Settings, err: Exception) -> str:
    reason = " ".join(str(err).split())[:200]
    return (
        f"The page does not answer on '{settings.server_name}' port '{settings.server_port}' "
        f"({type(err).__name__}: {reason}). Expected that it does within seconds; start again when "
        "the machine is less busy, or leave localhost out of its proxy (NO_PROXY=localhost)."
    )


def _cannot_listen(name: str, port: int, err: OSError | None = None) -> str:
    reason = f" ({err.strerror})" if err is not None and err.strerror else ""
    return (
        f"Cannot listen on '{name}' port '{port}'{reason}. Expected a free port of this machine; "
        "set GRADIO_SERVER_PORT (and GRADIO_SERVER_NAME) to another, or end what uses it."
    )
