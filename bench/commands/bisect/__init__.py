"""Which commit, or which release of a package, first moved a computed figure: ``update-bench bisect``."""
