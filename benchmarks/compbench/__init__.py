"""Images for T2I-CompBench's evaluators, made by running ComfyUI servers."""
