"""Networks on the CPU by mynah's own kernels; the C sources are in the folder ``native``."""
