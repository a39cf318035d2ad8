"""The world: small scenes with exact truth, in which everything that runs on Kandinsky runs too."""
