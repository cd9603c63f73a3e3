"""Which method and rank for which device: ``python -m bench recommend``."""
