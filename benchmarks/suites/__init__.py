"""asv's suites; run by ``asv run`` in ``benchmarks/``. All arrays are float32."""
