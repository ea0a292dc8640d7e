"""Export of torch networks to what the ONNX backend loads."""

import mynah.backends.onnx  # noqa: F401 - before ONNX Runtime is loaded: its telemetry is off
