"""Diffusion models: their folder, how they learn, how they are sampled."""
