"""raydistill: privacy distillation of text-to-image models, distributed with Ray."""

__version__ = "0.1.0"
