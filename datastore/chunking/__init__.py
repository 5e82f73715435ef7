"""Documents to passages: by words, by the encoder's tokens, by sentences, by structure."""
