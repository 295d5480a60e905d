"""What was measured: records, store, statistics, export."""
