"""The subcommands of `panward`, a file each."""
