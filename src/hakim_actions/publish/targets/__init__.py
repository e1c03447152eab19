"""One module a target; each defines ``open_target(settings) -> Target``."""
