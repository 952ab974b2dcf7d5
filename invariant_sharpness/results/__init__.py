"""What a measurement returns: a value with its error, comparisons of two of them, and their export."""
