"""A loaded model's insides: its attention, its gradients, its weights."""
