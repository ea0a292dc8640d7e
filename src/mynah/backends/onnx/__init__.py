"""Networks run by ONNX Runtime.

Its builds since 1.31 report usage to their maker, from Linux too. Nothing may leave the machine, so
that is switched off before the library is loaded for the first time; every import of it goes
through this package.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
