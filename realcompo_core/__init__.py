"""RealCompo's method, free of any host: torch, numpy, einops and the standard library only."""
