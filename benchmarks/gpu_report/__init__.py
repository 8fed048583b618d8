"""What one GPU says about mstar: speed, memory and correctness of each stage, in a report of its own."""
