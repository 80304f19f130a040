"""Handing a release on: to a bucket or folder, or to the Hugging Face hub. Only one that verifies, and that passed.

Nothing that is cut off in between looks complete: a bucket gets `SHA256SUMS` last, and each repository of the hub gets
all of its files in one commit, or none.
"""
