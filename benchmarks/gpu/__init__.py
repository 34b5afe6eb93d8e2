"""`make gpu`: is the trainer right on a GPU, and how fast beside upstream. Without one: the same, tiny, on the CPU."""
