"""The class that people import: text in, speech out."""

from mynah.api.lexicons import LexiconLike
from mynah.api.options import SpeakOptions, Text, VoiceLike
from mynah.api.tts import TTS

__all__ = ["TTS", "LexiconLike", "SpeakOptions", "Text", "VoiceLike"]
