"""The story that `panward demo` tells, with real parts and real clients; used by nothing else."""
