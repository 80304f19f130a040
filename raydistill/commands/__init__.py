"""The commands, by what they do: run something, look at what is there, or hand it on."""
