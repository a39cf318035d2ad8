"""Many runs of one Weights & Biases sweep file."""
