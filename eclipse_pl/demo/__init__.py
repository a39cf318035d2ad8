"""The live demo: a page where one types and images appear, and the same as a service for programs."""
