"""What is measured: rates and their intervals, membership, fidelity, utility. On arrays, without a cluster."""
