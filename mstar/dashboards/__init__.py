"""What people see of a run: the TensorBoard layout and samples, and the HTML report."""
