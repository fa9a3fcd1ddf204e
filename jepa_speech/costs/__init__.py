"""What a train step costs: its speed on noise, and the batch that fits a device."""
