"""The encoders of pictures and sound that can be converted, one file each."""
