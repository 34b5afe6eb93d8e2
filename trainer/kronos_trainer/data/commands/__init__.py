"""What `kronos data` starts: sample, import, check."""
