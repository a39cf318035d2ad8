"""Raw pairs: webdataset tars -> images and captions."""
