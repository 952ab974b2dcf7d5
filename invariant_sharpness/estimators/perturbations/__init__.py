"""The loss near the model's parameters: how far it rises, at most and on average."""
