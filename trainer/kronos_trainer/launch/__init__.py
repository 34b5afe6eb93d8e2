"""The ranks of one node, started through torchrun, and why they ended."""
