"""Finetuning the cross-attention keys (Separate-and-Enhance, arXiv 2312.06712)."""
