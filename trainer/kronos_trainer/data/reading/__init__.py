"""A table whose columns are known to checked rows: names of columns, times, numbers, and the faults of rows."""
