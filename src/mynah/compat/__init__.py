"""Drop-in for the official Python module: the same names, arguments and results.

    from mynah.compat import AutoModel      # instead of cosyvoice.cli.cosyvoice
    from mynah.compat import load_wav       # instead of cosyvoice.utils.file_utils

Everything is done by ``mynah.TTS``; what differs on purpose is in docs/models/differences.md, and
what became of every option in docs/guides/coming-from-cosyvoice.md. New programs should use
``mynah.TTS`` itself.
"""

from mynah.compat.models import AutoModel, CosyVoice, CosyVoice2, CosyVoice3
from mynah.compat.options import MynahCompatWarning
from mynah.compat.prompts import load_wav
from mynah.compat.seeds import set_all_random_seed

__all__ = [
    "AutoModel",
    "CosyVoice",
    "CosyVoice2",
    "CosyVoice3",
    "MynahCompatWarning",
    "load_wav",
    "set_all_random_seed",
]
