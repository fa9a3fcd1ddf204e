"""The cost of a train step: its speed on noise, and the batch that fits a device."""
