"""Every error that mynah raises on purpose, in one tree.

* SynthesisError                  code, hint
  - InvalidRequestError           the caller can fix it (also a ValueError)
    . PromptAudioError            reference audio too short, silent, unreadable ...
    . MarkupError                 unknown or unclosed tag, control marker; with position
    . UnknownVoiceError           lists close names
    . UnsupportedFeatureError     this model or format cannot do it
  - ModelError                    raised while loading
    . ModelNotFoundError
    . ModelFormatError            missing tensor, wrong shape, bad checksum
    . ConversionError             a converted graph is not what the released weights compute
    . ModelDownloadError          the server, the network or a checksum stopped a download
    . OfflineError                a download would be needed, and the network is forbidden
  - BackendError                  failure while running a network
    . BackendUnavailableError     extra not installed, device absent
  - GenerationError               the model misbehaved (NaN, tokens out of range)
    . GenerationLimitError        no end of speech within the limit
    . OutOfMemoryError            the text needs more memory than there is
  - OutputError                   the result cannot be written (also an OSError)
  - OverloadedError               queue full; carries retry_after_s
  - DeadlineError                 the request's deadline passed
  - CancelledError                the caller left
"""

from __future__ import annotations


class SynthesisError(Exception):
    """Base class: a message that names the value, a hint that names the cure."""

    code = "synthesis_error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidRequestError(SynthesisError, ValueError):
    """The request cannot be served as it is; the caller can fix it."""

    code = "invalid_request"


class PromptAudioError(InvalidRequestError):
    """Reference audio that cannot become a voice."""

    code = "prompt_audio"


class MarkupError(InvalidRequestError):
    """A tag or control marker in the text that is not allowed; ``position`` counts characters."""

    code = "markup"

    def __init__(self, message: str, *, hint: str = "", position: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.position = position


class UnknownVoiceError(InvalidRequestError):
    """No voice of that name."""

    code = "unknown_voice"


class UnsupportedFeatureError(InvalidRequestError):
    """The model, voice or format cannot do what was asked."""

    code = "unsupported"


class ModelError(SynthesisError):
    """A model cannot be loaded."""

    code = "model"


class ModelNotFoundError(ModelError):
    """No model of that name or at that path."""

    code = "model_not_found"


class ModelFormatError(ModelError):
    """A model file is damaged, incomplete or of another format."""

    code = "model_format"


class ConversionError(ModelError):
    """A converted model does not compute what the released one does."""

    code = "conversion"


class ModelDownloadError(ModelError):
    """A model could not be downloaded; what had arrived is kept and used the next time."""

    code = "model_download"


class OfflineError(ModelError):
    """A download would be needed, and the network is forbidden."""

    code = "offline"


class BackendError(SynthesisError):
    """A network could not be run."""

    code = "backend"


class BackendUnavailableError(BackendError):
    """A backend's package or device is missing."""

    code = "backend_unavailable"


class GenerationError(SynthesisError):
    """A network produced something unusable."""

    code = "generation"


class GenerationLimitError(GenerationError):
    """No end of speech within the length limit; ``audio`` is what was made all the same."""

    code = "generation_limit"

    def __init__(self, message: str, *, hint: str = "", audio: object = None) -> None:
        super().__init__(message, hint=hint)
        self.audio = audio
        """A ``mynah.Audio``, or None where chunks were handed out already."""


class OutOfMemoryError(GenerationError):
    """There was not enough memory for a request; whatever else runs goes on."""

    code = "out_of_memory"
    retry_after_s = 10.0


class OutputError(SynthesisError, OSError):
    """The audio cannot be written where it should go."""

    code = "output"

    def __str__(self) -> str:  # OSError's own __str__ would drop the hint
        return SynthesisError.__str__(self)


class OverloadedError(SynthesisError):
    """No capacity now; try again after ``retry_after_s`` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class DeadlineError(SynthesisError):
    """The request's deadline passed; ``audio`` is what was made all the same."""

    code = "deadline"

    def __init__(self, message: str, *, hint: str = "", audio: object = None) -> None:
        super().__init__(message, hint=hint)
        self.audio = audio
        """A ``mynah.Audio``, or None where chunks were handed out already."""


class CancelledError(SynthesisError):
    """The caller cancelled the request."""

    code = "cancelled"
