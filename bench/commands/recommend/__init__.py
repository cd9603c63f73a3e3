"""Which method and rank for which device: ``update-bench recommend``."""
