"""The study's statements, re-measured: arXiv 2507.23536, "From LLMs to Edge", Slamanig, Corti, Saukh, 2025."""
