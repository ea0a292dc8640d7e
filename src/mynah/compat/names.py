"""Names that scripts use for released models: hub ids, and folders that may not be there."""

from __future__ import annotations

from mynah.hub.catalogue import MODELS


def official_name(model_dir: str) -> str | None:
    """Name of the released model that a path or hub id means; None = no known one.

    ``iic/CosyVoice2-0.5B`` and ``pretrained_models/CosyVoice2-0.5B`` both end in the name of a
    repository; a date at the end of that, as in ``Fun-CosyVoice3-0.5B-2512``, may be left out.
    """
    wanted = model_dir.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    endings = {
        name: {repository.rpartition("/")[2].lower() for repository in model.repositories.values()}
        for name, model in MODELS.items()
    }
    for name, known in endings.items():
        if wanted == name or wanted in known:
            return name
    dated = (
        name
        for name, known in endings.items()
        if any(ending.rpartition("-")[0] == wanted and ending[-1:].isdigit() for ending in known)
    )
    return next(dated, None)
