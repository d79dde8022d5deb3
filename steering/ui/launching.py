"""Starts the page: reads the neuron set, starts the engine, listens.

The model is loaded in the engine's thread meanwhile, so the page opens at once. Knows settings,
not what a turn is.
"""

import logging
import socket

import gradio as gr

from steering.engine import Engine
from steering.errors import SettingsError, SteeringError
from steering.loading import LoadedModel, load_model
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from steering.settings import Settings
from steering.steerer import check_set_fits_model
from steering.ui.chat import Chat
from steering.ui.layout import lay_out
from steering.ui.listeners import connect
from steering.ui.making import SetMaker
from steering.ui.style import CSS, HEAD, make_theme

log = logging.getLogger(__name__)

# People who may wait for a turn, beyond those in the engine; more are told that it is full.
_MAX_WAITING = 64


def serve(settings: Settings) -> None:
    """Open the page and keep it open until the program is interrupted.

    Raises:
        SettingsError: If the address cannot be listened on, or the page does not answer there.
        NeuronSetFormatError: If the neuron set cannot be read.
    """
    _check_address(settings.server_name, settings.server_port)
    neurons = None if settings.neuron_set is None else load_neuron_set(settings.neuron_set)
    engine = Engine(lambda: _load(settings, neurons))
    maker = None
    if neurons is None:
        maker = SetMaker(engine, settings.data, settings.chosen_languages())
        maker.begin()
    page = build_page(Chat(engine, neurons, settings.max_new_tokens, maker), model=settings.model)
    try:
        open_page(page, name=settings.server_name, port=settings.server_port)
    except OSError as err:  # taken since it was checked, or Gradio's server was too slow
        raise SettingsError(
            f"{_cannot_listen(settings.server_name, settings.server_port)} If nothing does, the "
            "machine was too busy; start again."
        ) from err
    except Exception as err:  # Gradio asks its own page whether it is there: ValueError, httpx's
        page.close(verbose=False)
        raise SettingsError(_does_not_answer(settings, err)) from err
    finally:
        if maker is not None:
            maker.stop()
        engine.close(timeout_s=2)


def build_page(chat: Chat, *, model: str) -> gr.Blocks:
    """Return the page, not yet opened.

    Args:
        chat: The engine, the neuron set or who makes it, and the limits.
        model: Name to show.
    """
    page = gr.Blocks(title="Langsteer", analytics_enabled=False)
    with page:
        connect(page, lay_out(chat.languages, model, has_set=chat.neurons is not None), chat)
    return page


def open_page(page: gr.Blocks, *, name: str, port: int, is_blocking: bool = True) -> None:
    """Serve a page at an address, until the program is interrupted if it *is_blocking*."""
    page.queue(max_size=_MAX_WAITING)
    page.launch(
        server_name=name,
        server_port=port,
        prevent_thread_lock=not is_blocking,
        theme=make_theme(),
        css=CSS,
        head=HEAD,
        footer_links=["api"],
        ssr_mode=False,
        run_history=False,
    )


def _load(settings: Settings, neurons: NeuronSet | None) -> LoadedModel:
    """Load the model, in the engine's thread; what goes wrong is said on the console as well."""
    try:
        model = load_model(settings.model, quantize=settings.quantize, device=settings.device)
        if neurons is not None:
            check_set_fits_model(neurons, model)
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
