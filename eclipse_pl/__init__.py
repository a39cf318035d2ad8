"""Train and compare text-to-image priors: caption -> CLIP image embedding."""
