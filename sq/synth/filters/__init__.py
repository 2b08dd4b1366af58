"""The filters of `stage=filter`, one file each."""
