"""What happens beside training: measuring, timing, stopping in good order."""
