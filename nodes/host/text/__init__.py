"""The host's text encoders and tokenizers."""
