"""The networks that tell whether two images show the same person."""
