"""Finetuning a loaded model."""
