"""Prompts are data too: from structured fields, in a closed public language, k-anonymous over patients."""

from raydistill.data.vocabulary import template_texts

__all__ = ["template_texts"]
