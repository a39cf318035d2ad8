"""The live demo: a web page that shows the images of a typed prompt, and a service for programs."""
