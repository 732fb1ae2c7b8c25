"""Durability for AI frameworks: one module and one extra per framework."""
