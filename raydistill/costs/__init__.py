"""What a run will cost, said before it starts: work of each stage, rates measured before, prices of machines."""
