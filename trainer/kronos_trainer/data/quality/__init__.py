"""What is odd about a series of bars: gaps, splits, outliers, halts, and how it is reported."""
