"""The commands, by what they do: run something, or look at what is there."""
