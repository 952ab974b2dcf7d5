"""From a framework to an oracle: data as users have them, the registry of backends, and the oracle of a data set."""
