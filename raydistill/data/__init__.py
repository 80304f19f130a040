"""The data layer: sources, pictures, roles and prompts. Neither torch nor ray."""
