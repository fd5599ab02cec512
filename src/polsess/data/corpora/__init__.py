"""Every corpus but PolSESS, one file each."""
