"""Our programs as processes: one instance a home, its children kept running, in the foreground or behind."""
