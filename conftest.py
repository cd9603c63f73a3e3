"""What this repository's own tests need. The benchmarks' options, hooks and fixtures are the plugin's (bench/plugin.py)."""

pytest_plugins = ["pytester"]
