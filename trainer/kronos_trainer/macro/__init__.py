"""What surrounds the forecasts of slow bars: seasons and regimes, and the errors in each. Described, not tested."""
