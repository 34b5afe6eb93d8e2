"""What outlives a process: checkpoints, results, the lock of a model, and object stores."""
