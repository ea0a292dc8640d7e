"""What an operator decides about a server."""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from mynah import hub
from mynah.errors import InvalidRequestError
from mynah.server.numbers import OUTSIDE

PREFIX = "MYNAH_SERVER_"
"""Of the environment variables: ``MYNAH_SERVER_PORT=9000`` sets ``port``."""

OPENAI_VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable",
    "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
"""Names that OpenAI's clients have built in."""

_LISTS = ("allowed_hosts", "api_keys", "cors_origins", "models", "trusted_proxies")
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


class ServerSettings(BaseModel):
    """Everything that can be set, with defaults that are safe on a desk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    """0 = any free one."""
    grpc_port: int | None = Field(None, ge=0, le=65535)
    """Of CosyVoice's gRPC service, whose usual one is 50000; None = it is not offered."""
    wyoming_port: int | None = Field(None, ge=0, le=65535)
    """Of Wyoming, whose usual one is 10200; None = it is not offered."""
    api_keys: tuple[SecretStr, ...] = ()
    """Who sends one of them may use the server; none = everybody who reaches it."""
    allow_public: bool = False
    """Whether the server may be reached from elsewhere without an API key."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of other origins that may call the server, such as ``https://example.org``."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which the server may be called where it is only for this machine and asks for no
    key, besides addresses and ``localhost``; ``*`` = any. Keeps web pages out that point a name of
    their own at this machine."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies whose ``X-Forwarded-For`` is believed."""

    models: tuple[str, ...] = ()
    """Names or folders of the models on offer, the default one first; none = all installed."""
    device: str = "cpu"
    backend: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    quality: Literal["exact", "balanced", "fast"] = "exact"
    """Steps of the flow; see docs/performance.md for what fewer of them cost."""
    left_chunks: int | None = Field(default=None, ge=1)
    """Seconds of speech that the flow looks back; None = all."""
    lexicon: Path | None = None
    """File of pronunciations for everything that is said; those of a request count before them."""
    max_models: int = Field(default=4, ge=1)
    """Models in memory at once; one that nobody uses makes room for the next."""
    voice_aliases: dict[str, str] = Field(default_factory=lambda: dict.fromkeys(OPENAI_VOICES, ""))
    """Further names of voices for OpenAI's clients; "" = the model's own voice."""
    data_dir: Path | None = None
    """Where the job queue and its results are kept; None = ``MYNAH_HOME/server``."""

    max_text_characters: int = Field(default=20_000, ge=1, le=1_000_000)
    """Of one request; longer texts are for jobs."""
    max_job_characters: int = Field(default=1_000_000, ge=1, le=1_000_000)
    max_upload_bytes: int = Field(default=10 << 20, ge=1024)
    """Of one recording."""
    max_upload_s: float = Field(default=60.0, gt=0)
    """Longest recording that is decoded, in seconds."""
    max_body_bytes: int = Field(default=16 << 20, ge=1024)
    """Of a whole request, which may carry a recording as base64."""
    max_listeners: int | None = Field(default=None, ge=1)
    """Speeches in real time at once, for each model; None = as many as the machine was measured to
    be able to make without a gap."""
    headroom: float = Field(default=0.5, gt=0, le=1)
    """Share of what the machine was measured to be able to make that is given away, so that first
    audio comes as quickly as if nobody else was there."""
    max_sessions: int = Field(default=64, ge=1)
    """Speeches at the same time, whatever the engine thinks it can do."""
    max_jobs: int = Field(default=1000, ge=1)
    """Jobs that wait or run."""
    keep_jobs_s: float = Field(default=7 * 86400.0, gt=0)
    """How long finished jobs and their audio are kept."""
    request_s: float = Field(default=3600.0, gt=0)
    """Longest time that one request may take."""
    body_s: float = Field(default=60.0, gt=0)
    """Longest time that a client may take to send its request."""
    stall_s: float = Field(default=60.0, gt=0)
    """Longest time that a client may stop reading before it is let go."""
    drain_s: float = Field(default=60.0, ge=0)
    """Longest time that running requests get to finish when the server is told to stop."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """For each key, or each address where there are no keys; None = no limit."""
    burst: int = Field(default=10, ge=1)
    """Requests that may come at once before that limit counts."""
    frame_ms: int = Field(default=20, ge=5, le=1000)
    """Length of the pieces of a raw PCM stream."""

    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tracing: bool = False
    """Whether spans are sent by OpenTelemetry, as its ``OTEL_*`` variables say (extra ``otel``)."""

    @field_validator("api_keys")
    @classmethod
    def _keys_hold_something(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(not key.get_secret_value().strip() for key in keys):
            raise ValueError("an API key is empty")
        return keys

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ, **changes: Any) -> Self:
        """Read the environment; ``changes`` that are not None count before it.

        Raises:
            InvalidRequestError: naming the setting that is wrong, or a variable that sets nothing.
        """
        _check_names(environment, cls.model_fields)
        values: dict[str, Any] = {
            name: _parsed(name, environment[PREFIX + name.upper()])
            for name in cls.model_fields
            if environment.get(PREFIX + name.upper(), "") != ""
        }
        values |= {name: value for name, value in changes.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            value = f", not {first['input']}" if first["type"] in OUTSIDE else ""
            raise InvalidRequestError(
                f"the server setting {name} is wrong: {first['msg']}{value}",
                hint=f"see `mynah serve --help`, or the variable {PREFIX}{name.upper()}",
            ) from None  # the cause would show the value, which may be a key

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the server."""
        if self.host in _LOCAL_NAMES:
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True

    def check_exposure(self) -> None:
        """Refuse to be open to the world by accident.

        Raises:
            InvalidRequestError: if others can reach the server, no key is set, and that was not
                allowed; likewise for Wyoming, which knows no keys.
        """
        if self.is_public and not self.api_keys and not self.allow_public:
            raise InvalidRequestError(
                f"{self.host} can be reached from other machines, and no API key is set",
                hint=f"set {PREFIX}API_KEYS, bind to 127.0.0.1, or pass --allow-public",
            )
        if self.is_public and self.wyoming_port is not None and not self.allow_public:
            raise InvalidRequestError(
                f"{self.host} can be reached from other machines, and Wyoming knows no API keys",
                hint="pass --allow-public if the network is trusted, or leave --wyoming-port out",
            )

    @property
    def data_path(self) -> Path:
        """Folder of the server's own data; may not exist yet."""
        return self.data_dir if self.data_dir is not None else hub.home() / "server"


def _check_names(environment: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse what is misspelt: a key or a limit would be missing, and nobody would notice."""
    names = {PREFIX + name.upper() for name in known}
    wrong = sorted(name for name in environment if name.startswith(PREFIX) and name not in names)
    if wrong:
        near = difflib.get_close_matches(wrong[0], names, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InvalidRequestError(
            f"there is no server setting {wrong[0]}",
            hint=f"{meant}they are listed in docs/guides/serve.md",
        )


def _parsed(name: str, text: str) -> Any:
    if name in _LISTS:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if name == "voice_aliases":
        try:
            return json.loads(text)
        except ValueError:
            return text  # refused by the model with a message
    return text
