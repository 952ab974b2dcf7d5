"""The results of measurements: values with their errors, comparisons of two of them, and their export."""
