"""What the suite's own tests need. Options, hooks and fixtures of the benchmarks are the plugin's (bench/plugin.py)."""

pytest_plugins = ["pytester"]
