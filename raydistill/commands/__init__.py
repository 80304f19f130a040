"""The commands, by what they do: run something, look at what is there, or at a cohort alone, or hand it on."""
