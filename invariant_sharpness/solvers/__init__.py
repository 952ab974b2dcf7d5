"""The optimization problems behind normalized sharpness (17), each solved to a proven gap."""
