"""What people see of a run: the TensorBoard layout and samples, figures, and the HTML report."""
