"""What happens inside one trial: data, seeds, loop, evaluation, checkpoint."""
