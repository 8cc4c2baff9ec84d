"""Programs that open an exported model again, each as strangers would open it, so that a certificate is about what they get."""
