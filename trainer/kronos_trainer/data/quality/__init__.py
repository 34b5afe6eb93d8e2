"""Anomalies in a series of bars (gaps, splits, outliers, halts) and their report."""
