"""Carries out plans in a cluster: observe, plan, write status, act. Started by the handlers."""
