"""Networks with Gaussian noise on their weights: their mean loss, and the noise that is best."""
