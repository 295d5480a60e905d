"""What the papers prove or simulate, as pure functions that need neither a suite nor a store."""
