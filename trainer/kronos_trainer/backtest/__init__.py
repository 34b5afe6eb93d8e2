"""What trading on a model's forecasts would have earned: those of its evaluation, filled at the next open, with costs.

bt does the accounting and ffn the statistics; no other package imports them.
"""
