"""The gauges and architectures that gaugec ships, as `.gauge` text."""
