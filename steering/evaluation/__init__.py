"""Measures whether steering works and what it costs. Each module is one measurement."""
