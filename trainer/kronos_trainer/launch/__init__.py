"""Starts the ranks of one node through torchrun and determines why they ended."""
