"""UNet++ beside nnU-Net itself."""
