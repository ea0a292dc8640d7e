"""Model folders on this machine, and where official models come from.

``folders`` finds and checks what is installed. ``catalogue`` knows the official models by name, and
``download`` fetches their files; nothing else in the package uses the network.
"""

from mynah.hub.folders import (
    CONFIG_NAME,
    CONVERSION,
    DEFAULT_MODEL,
    HOME_VARIABLE,
    MANIFEST_NAME,
    FileEntry,
    ModelFolder,
    checksums,
    file_sha256,
    find_model,
    home,
    model_names,
    model_roots,
    verify_model,
    write_manifest,
)

__all__ = [
    "CONFIG_NAME",
    "CONVERSION",
    "DEFAULT_MODEL",
    "HOME_VARIABLE",
    "MANIFEST_NAME",
    "FileEntry",
    "ModelFolder",
    "checksums",
    "file_sha256",
    "find_model",
    "home",
    "model_names",
    "model_roots",
    "verify_model",
    "write_manifest",
]
