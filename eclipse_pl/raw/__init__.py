"""Raw pairs: webdataset tars of images and captions, from the tar's name to decoded pixels."""
