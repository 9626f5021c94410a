"""A witness of logs (C2SP tlog-witness): one process that somebody else than the log runs."""
