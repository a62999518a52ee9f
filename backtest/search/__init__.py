"""Searches over any ``evaluate(batch) -> scores``; they minimise, as scipy does."""
