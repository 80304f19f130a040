"""What a run is made of: configuration, tables, storage, manifests, seeds, errors. Neither torch nor ray."""
