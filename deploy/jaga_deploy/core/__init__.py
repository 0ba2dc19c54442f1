"""What may be issued, revoked and written for the broker: values in, values out."""
