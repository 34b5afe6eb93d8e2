"""The models of an output root: compared, exported, pruned, backed up. `python -m kronos_trainer.collection`."""
