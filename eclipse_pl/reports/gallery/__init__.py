"""All images of a comparison beside its page, with the evidence of their scores."""
