"""From files of bars to windows. `python -m kronos_trainer.data` is the command.

`layouts` recognises a file, `reading` checks its rows, `quality` finds anomalies of a series, and this package's own
modules build the series, resample and memory-map them, and cut the windows.
"""
