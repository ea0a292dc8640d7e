"""``mynah serve``: the server, with safe defaults."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from mynah.cli import options
from mynah.errors import BackendUnavailableError

_NEEDED = ("fastapi", "uvicorn", "multipart", "av")


Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; default 127.0.0.1.")
]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Default 8080; 0 = any free one.")]
GrpcPort = Annotated[
    int | None,
    typer.Option("--grpc-port", help="Offer CosyVoice's gRPC service there; usual is 50000."),
]
WyomingPort = Annotated[
    int | None,
    typer.Option("--wyoming-port", help="Offer Wyoming (Home Assistant) there; usual is 10200."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Name or folder of a model on offer, the default one first; may be repeated. Without "
        "it all that are installed.",
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key",
        help="Key that clients must send; may be repeated. Other users of this machine can see it "
        "here: the variable MYNAH_SERVER_API_KEYS is better.",
    ),
]
Public = Annotated[
    bool, typer.Option("--allow-public", help="Let other machines use the server without a key.")
]
Origins = Annotated[
    list[str] | None,
    typer.Option("--cors-origin", help="Origin of web pages that may call; may be repeated."),
]
Rate = Annotated[
    float | None, typer.Option("--requests-per-minute", help="For each key or address.")
]
MaxText = Annotated[
    int | None, typer.Option("--max-text", help="Characters of one request; default 20000.")
]
Listeners = Annotated[
    int | None,
    typer.Option(
        "--max-listeners",
        help="Speeches in real time at once; default: as many as this machine can make.",
    ),
]
MaxModels = Annotated[
    int | None, typer.Option("--max-models", help="Models in memory at once; default 4.")
]
Quality = Annotated[
    str | None, typer.Option("--quality", help="exact, balanced or fast: fewer steps of the flow.")
]
Lexicon = Annotated[
    Path | None, typer.Option("--lexicon", help="File of pronunciations for all that is said.")
]
Data = Annotated[
    Path | None, typer.Option("--data-dir", help="Where jobs and their results are kept.")
]
Drain = Annotated[
    float | None,
    typer.Option("--drain", help="Seconds that running requests get at the end; default 60."),
]
Backend = Annotated[
    str | None, typer.Option("--backend", help="auto, native, onnx, or torch (an extra).")
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu; with the torch backend also cuda or auto.")
]
LogFormat = Annotated[
    Literal["text", "json"] | None,
    typer.Option("--log-format", help="Form of the log lines; default text."),
]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]


def serve(
    host: Host = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    wyoming_port: WyomingPort = None,
    model: Models = None,
    api_key: Keys = None,
    allow_public: Public = False,
    cors_origin: Origins = None,
    requests_per_minute: Rate = None,
    max_text: MaxText = None,
    max_listeners: Listeners = None,
    max_models: MaxModels = None,
    quality: Quality = None,
    lexicon: Lexicon = None,
    data_dir: Data = None,
    drain: Drain = None,
    backend: Backend = None,
    device: Device = None,
    threads: options.Threads = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Serve speech over HTTP and WebSockets, and a page to try it.

    Every option can be set by a variable, too: MYNAH_SERVER_PORT=9000 and so on; the guide lists
    them. On SIGTERM or Ctrl-C running requests are finished and new ones refused.
    """
    _require_packages()
    from mynah.cli.console import note
    from mynah.server.logs import configure_logs, log_speeches
    from mynah.server.process import run_server
    from mynah.server.runtime import Runtime
    from mynah.server.settings import ServerSettings

    settings = ServerSettings.load(
        host=host,
        port=port,
        grpc_port=grpc_port,
        wyoming_port=wyoming_port,
        models=tuple(model) if model else None,
        api_keys=tuple(api_key) if api_key else None,
        allow_public=allow_public or None,
        cors_origins=tuple(cors_origin) if cors_origin else None,
        requests_per_minute=requests_per_minute,
        max_text_characters=max_text,
        max_listeners=max_listeners,
        max_models=max_models,
        quality=quality,
        lexicon=lexicon,
        data_dir=data_dir,
        drain_s=drain,
        backend=backend,
        device=device,
        threads=threads,
        log_format=log_format,
        log_level=log_level,
    )
    settings.check_exposure()  # before a model is loaded
    configure_logs(settings.log_format, settings.log_level)
    runtime = Runtime(settings)
    log_speeches(runtime)
    runtime.load()
    run_server(runtime, lambda address: note(f"{runtime.default_model} speaks at {address}"))


def _require_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise BackendUnavailableError(
            f"the server needs packages that are not installed ({', '.join(missing)})",
            hint='pip install "mynah-tts[server]"',
        )
