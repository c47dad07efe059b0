"""From a prompt to a layout: by rules of English, or by a language model."""
