"""What a running loop says about itself, written and read back."""
