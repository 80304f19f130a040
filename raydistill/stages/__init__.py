"""One file a stage: Ray jobs made of science, each filling one artifact."""
