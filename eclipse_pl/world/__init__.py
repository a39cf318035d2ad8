"""The world: small synthetic scenes with exact ground truth. Code that runs on it runs on Kandinsky 2.2 too."""
