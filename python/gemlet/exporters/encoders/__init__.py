"""The encoders of pictures and sound that can be exported, one file each."""
