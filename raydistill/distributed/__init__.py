"""Ray and DeepSpeed, and no science: sessions, the one training loop, sharded map jobs."""
